// The storefront's script. It is served in under 4096 bytes: without comments and needless blanks, with a letter or two
// for every name that begins with a dollar sign, and with the app's id in the place of __APP_ID__. So a comment has its
// line to itself, and a line that is not the end of its statement ends in punctuation.
// Nothing in here may throw into the shop's page, and its only global is window.capi; fetch, XMLHttpRequest and
// pushState are listened to and do what they always did.
($window => {
try {
  // The page may hold a stub that keeps calls until we are here.
  let $stub = $window.capi;
  if ($stub?.id) return;
  let $document = document, $location = location, $xhr = XMLHttpRequest.prototype, $purchase = 'Purchase',
  $checkout = 'InitiateCheckout', $script = $document.currentScript || $document.querySelector('[src*="pixel.js?id="]'),
  $endpoint = new URL('api/track', $script.src),
  $toCart = /\/cart\/add(\.js|\.json)?([?#]|$)/, $toCheckout = /\/checkouts?([/?#]|$)/,
  // What the page itself has told of consent, and the events that wait for it.
  $told = {}, $held = [],
  $safe = f => function (...a) { try { return f.apply(this, a) } catch {} },
  $on = (n, f, t) => (t || $window).addEventListener(n, $safe(f), !!t),
  $after = (o, n, f) => {
    let was = o[n];
    o[n] = function (...a) {
      let r = was.apply(this, a);
      $safe(f)(this, a, r);
      return r
    }
  },
  $json = $safe(JSON.parse),
  $cookie = $safe(n => decodeURIComponent(('; ' + $document.cookie).match('; ' + n + '=([^;]*)')[1])),
  // The page's word on consent, else that of Shopify's Customer Privacy API.
  $privacy = () => $window.Shopify?.customerPrivacy,
  $agreed = (n = 'marketing') => $told[n] ?? $privacy()?.[n + 'Allowed']?.(),
  $asking = 1, $page, $seen, $pause = 0,

  $flush = $safe(() => {
    if ($agreed() ?? !$asking) $held.splice(0).map($send);
    // Shopify answers false as well for one who has not chosen yet: those events wait, these are forgotten.
    else if ($told.marketing == 0 || $privacy()?.currentVisitorConsent?.().marketing == 'no') $held.length = 0
  }),

  $send = $safe(e => {
    let n = e.eventName, eventID = e.event_id;
    // Thank-you pages are opened again.
    if (n == $purchase) try { let s = localStorage, k = 'capi.' + eventID; if (s[k]) return; s[k] = 1 } catch {}
    let body = JSON.stringify({
      ...e, sentAt: new Date, fbp: $cookie('_fbp'), fbc: $cookie('_fbc'), cartToken: $cookie('cart')?.split('?')[0],
      consent: { marketing: $agreed(), saleOfData: $agreed('saleOfData') }
    });
    // Text needs no preflight, and a beacon outlives the page.
    navigator.sendBeacon?.($endpoint, body) || fetch($endpoint, { method: 'POST', body, keepalive: !0 }).catch($json);
    // Under one id Meta counts its own pixel's event and this one once.
    $script.dataset.fbq == 'true' && $window.fbq?.('track', n, e.customData, { eventID })
  }),

  $capi = $safe((n, d, x) => {
    if (n == 'consent') return Object.assign($told, d), $flush();
    let { checkoutToken: t, userData, ...customData } = d || {}, o = customData.order_id;
    t = t && `${t}`.split('?')[0];
    // The names that the endpoint gives to Shopify's webhooks of the same order and checkout.
    let id = x?.eventID || (
      n == $purchase ? t ? 'purchase.' + t : o && 'purchase.o' + `${o}`.replace(/^gid.*\//, '') :
      n == $checkout && t && 'checkout.' + t
    );
    $held.length < 20 && $held.push({
      appId: '__APP_ID__', eventName: n, url: $location.href, referrer: $document.referrer, pageTitle: $document.title,
      timestamp: new Date, event_id: id && /^[\w.:-]{1,128}$/.test(id) ? id : crypto.randomUUID?.(),
      checkoutToken: t, userData, customData
    });
    $flush()
  }),

  // Shopify's own record of the page's product.
  $product = () => $window.ShopifyAnalytics?.meta?.product || $window.meta?.product,
  // One line: x was looked at or asked for, r is what the shop says of it, in hundredths whatever the currency.
  $line = (x, r = {}, $unit = 100) => {
    let p = $product(), id = x.variant_id || x.id, v = p?.variants?.find(v => v.id == id);
    return {
      id, product_id: r.product_id || v && p.id, sku: r.sku || v?.sku, quantity: +x.quantity || 1,
      item_price: (r.final_price ?? r.price ?? v?.price) / $unit, title: r.product_title || v?.name
    }
  },
  $goods = (n, $lines, $currency) => $capi(n, {
    value: $lines.reduce((s, x) => s + x.item_price * x.quantity, 0) || void 0,
    currency: $window.Shopify?.currency?.active || $currency, content_name: $lines[0].title, contents: $lines
  }),

  $view = $safe(() => {
    let p = $product(), og = n => $document.querySelector(`[property$="${n}"]`)?.content;
    if ($page == ($page = $location.pathname)) return;
    $capi('PageView');
    // Where Shopify says nothing: JSON-LD or Open Graph.
    let x = [...$document.querySelectorAll('[type$="ld+json"]')]
      .map(s => $json(s.textContent))
      .flatMap(j => j?.['@graph'] || j)
      .find(x => /Product/.test(x?.['@type'])),
    o = [x?.offers].flat()[0], $title = p?.id || x?.name || og('og:type') == 'product' && og('og:title');
    if ($title && $title != $seen) $goods(
      'ViewContent',
      [p ? $line({ id: $window.ShopifyAnalytics?.meta.selectedVariantId || p.variants?.[0].id }) :
        { id: x?.sku, quantity: 1, item_price: o?.price || og('price:amount'), title: $title }],
      o?.priceCurrency || og('price:currency')
    );
    $seen = $title
  }),
  $later = () => setTimeout($view, 99),

  // What was sent to the cart, and the shop's answer: it knows the price, but counts what was there before.
  $added = $safe((b, r) => {
    b = $json(b) || Object.fromEntries(new URLSearchParams(b));
    r = $json(r) || {};
    let a = r.items || [r];
    $goods('AddToCart', (b.items || (b.id ? [b] : a)).map(x => $line(x, a.find(y => y.id == x.id))))
  }),
  // A click on the button submits its form as well.
  $leave = () => {
    $toCheckout.test($location) || Date.now() < $pause || $capi($checkout);
    $pause = Date.now() + 3e3
  },

  $start = $safe(() => {
    let s = $window.Shopify, c = s?.checkout;
    $asking = s?.loadFeatures && $agreed() == null;
    $asking && s.loadFeatures([{ name: 'consent-tracking-api', version: '0.1' }], () => { $asking = 0; $flush() });
    $flush();
    $view();
    // Shopify's thank-you page.
    c?.order_id && $capi($purchase, {
      value: c.total_price, currency: c.currency, order_id: c.order_id, checkoutToken: c.token,
      contents: c.line_items?.map(x => $line(x, x, 1))
    })
  });

  $window.capi = $capi;
  $capi.id = 1;
  $stub?.q?.map(a => $capi(...a));

  $on('visitorConsentCollected', $flush, $document);
  $on('click', e => {
    let a = e.target.closest('a[href],[name=checkout]:not(a)');
    (!a.href || $toCheckout.test(a.href)) && $leave()
  }, $document);
  // At the window, after the theme's own listeners: one that prevented this sends the form by fetch.
  $on('submit', e => {
    let f = e.target;
    $toCheckout.test(f.action) ? $leave() : $toCart.test(f.action) && !e.defaultPrevented && $added(new FormData(f))
  });
  $after($window, 'fetch', (t, [u, o], r) => {
    // Once: with the answer, or without it when the page is left before it was read.
    let f = a => { f && $added(o?.body, a); f = 0 };
    $toCart.test(u.url || u) && r.then(x => x.ok && ($on('pagehide', f), x.clone().text().then(f))).catch($json)
  });
  $after($xhr, 'open', (t, a) => { t.capi = a[1] });
  $after($xhr, 'send', (t, [b]) => {
    $toCart.test(t.capi) && $on('load', () => t.status < 300 && $added(b, t.response), t)
  });
  $after(history, 'pushState', $later);
  $on('popstate', $later);

  $document.prerendering ? $on('prerenderingchange', $start, $document) :
  $document.readyState == 'loading' ? $on('DOMContentLoaded', $start) : $start()
} catch {}
})(window)
