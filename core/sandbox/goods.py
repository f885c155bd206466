"""The small shop's customers, wares and the bodies made of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

Maker = Callable[[random.Random, str, datetime], dict[str, Any]]

_PEOPLE: Final = (
    ("Zoë", "Müller", "Köln", "50667", "NW", "DE", "Germany", "+49 221 1234567"),
    ("José María", "O'Connor", "São Paulo", "01310-100", "SP", "BR", "Brazil", "+55 11 91234-5678"),
    ("小明", "王", "上海市", "200000", "SH", "CN", "China", "+86 138 0013 8000"),
    ("Aoife", "Ní Bhriain", "Dublin", "D02 X285", "D", "IE", "Ireland", "+353 1 234 5678"),
    ("Łukasz", "Żółty", "Kraków", "30-001", None, "PL", "Poland", "+48 512 345 678"),
    ("Emily", "Smith-Jones", "Portland", "97201-1234", "OR", "US", "United States", "(503) 555-0142"),
    ("محمد", "الأحمد", "دبي", "00000", "DU", "AE", "United Arab Emirates", "+971 50 123 4567"),
    ("Noémie", "Lefèvre", "Saint-Étienne", "42000", None, "FR", "France", "04 77 12 34 56"),
)
_WARES: Final = (
    ("Café crème — 250 g", "CAFE-250", "12.90", 632910392, 808950810),
    ("T-Shirt “Ünïcode” 👕", "TS-UNI-M", "29.00", 632910393, 808950811),
    ("Læder taske / sort", "BAG-01", "149.50", 632910394, 808950812),
    ("抹茶 Matcha 100g", "MATCHA-100", "18.75", 632910395, 808950813),
    ("Kids' socks & more", "SOCK-3", "7.99", 632910396, 808950814),
)
_BROWSERS: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6"
    " Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile"
    " Safari/537.36",
)
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_FBCLIDS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


def customer(chance: random.Random) -> dict[str, Any]:
    first, last, city, post_code, province, country, country_name, phone = chance.choice(_PEOPLE)
    number = chance.randrange(10**6)
    return {
        "id": 6_000_000_000_000 + number,
        "first_name": first,
        "last_name": last,
        "email": f"Customer.{number}@Mail.example",
        "phone": phone,
        "city": city,
        "zip": post_code,
        "province_code": province,
        "country_code": country,
        "country": country_name,
        # Global addresses, since private and documentation ranges are not taken for a browser's.
        "ip": f"81.2.{chance.randrange(256)}.{chance.randrange(1, 255)}",
        "user_agent": chance.choice(_BROWSERS),
    }


def lines(chance: random.Random) -> list[dict[str, Any]]:
    chosen = chance.sample(_WARES, chance.randint(1, 3))
    return [_line(chance, *ware) for ware in chosen]


def _line(chance: random.Random, title: str, sku: str, price: str, product: int, variant: int) -> dict[str, Any]:
    quantity = chance.randint(1, 3)
    return {
        "id": chance.randrange(10**13, 10**14),
        "product_id": product,
        "variant_id": variant,
        "sku": sku,
        "title": title,
        "name": title,
        "vendor": "Größe & Söhne",
        "quantity": quantity,
        "current_quantity": quantity,
        "price": price,
        "price_set": _set(price),
        "line_price": str(Decimal(price) * quantity),
        "total_discount": "0.00",
        "discount_allocations": [],
        "gift_card": False,
        "grams": 250,
        "taxable": True,
        "properties": [],
    }


def order(chance: random.Random, shop: str, moment: datetime) -> dict[str, Any]:
    person, bought = customer(chance), lines(chance)
    number, token = chance.randrange(10**13, 10**14), _word(chance, 32)
    return {
        "id": number,
        "admin_graphql_api_id": f"gid://shopify/Order/{number}",
        "name": f"#{number % 100_000}",
        "order_number": number % 100_000,
        "token": _word(chance, 32),
        "checkout_token": token,
        "cart_token": _word(chance, 24),
        **_browser(person),
        "created_at": moment.isoformat(timespec="seconds"),
        "processed_at": moment.isoformat(timespec="seconds"),
        "updated_at": moment.isoformat(timespec="seconds"),
        "cancelled_at": None,
        "email": person["email"],
        "contact_email": person["email"],
        "phone": person["phone"],
        "financial_status": "paid",
        "fulfillment_status": None,
        "landing_site": f"/products/café?utm_source=facebook&fbclid={_click(chance)}",
        "referring_site": "https://l.facebook.com/",
        "order_status_url": f"https://{shop}/12345/orders/{token}/authenticate?key=example",
        "note_attributes": [{"name": "_fbp", "value": _fbp(chance, moment)}],
        "source_name": "web",
        "test": False,
        **_sums(_total(bought)),
        "line_items": bought,
        "customer": _customer(person),
        "billing_address": _address(person),
        "shipping_address": _address(person),
    }


def _browser(person: dict[str, Any]) -> dict[str, Any]:
    details = {"accept_language": "en", "browser_ip": person["ip"], "user_agent": person["user_agent"]}
    unknown = dict.fromkeys(("browser_height", "browser_width", "session_hash"))
    return {"browser_ip": person["ip"], "client_details": details | unknown}


def _sums(total: str) -> dict[str, Any]:
    return {
        "currency": "EUR",
        "presentment_currency": "EUR",
        "total_price": total,
        "current_total_price": total,
        "subtotal_price": total,
        "total_tax": "0.00",
        "total_price_set": _set(total),
        "total_shipping_price_set": _set("0.00"),
    }


def checkout(chance: random.Random, shop: str, moment: datetime) -> dict[str, Any]:
    person, chosen = customer(chance), lines(chance)
    token, total = _word(chance, 32), _total(chosen)
    return {
        "token": token,
        "cart_token": _word(chance, 24),
        "name": f"#{chance.randrange(10**15)}",
        "email": person["email"],
        "phone": None,
        "created_at": moment.isoformat(timespec="seconds"),
        "updated_at": moment.isoformat(timespec="seconds"),
        "completed_at": None,
        "currency": "EUR",
        "presentment_currency": "EUR",
        "landing_site": "/",
        "referring_site": "",
        "abandoned_checkout_url": f"https://{shop}/12345/checkouts/{token}/recover?key=example",
        "source_name": "web",
        "note_attributes": [],
        "total_price": total,
        "subtotal_price": total,
        "total_tax": "0.00",
        "line_items": chosen,
        "billing_address": _address(person),
        "shipping_address": _address(person),
        "customer": _customer(person),
    }


def cart(chance: random.Random, _shop: str, moment: datetime) -> dict[str, Any]:
    token = "hWN" + _word(chance, 29)
    return {
        "id": token,
        "token": token,
        "line_items": [line | {"discounted_price": line["price"], "discounts": []} for line in lines(chance)],
        "note": None,
        "created_at": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "updated_at": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def tracked(
    chance: random.Random, event: str, app_id: str, shop: str, moment: datetime, properties: dict[str, Any]
) -> dict[str, Any]:
    return {
        "appId": app_id,
        "eventName": event,
        "url": f"https://{shop}/products/caf%C3%A9?utm_source=facebook",
        "referrer": "https://l.facebook.com/",
        "pageTitle": "Café crème — Größe & Söhne",
        "sessionId": _word(chance, 16),
        "visitorId": _word(chance, 16),
        "fingerprint": _word(chance, 8),
        "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "screenWidth": 390,
        "screenHeight": 844,
        "language": "de-DE",
        "utmSource": "facebook",
        "fbp": _fbp(chance, moment),
        **properties,
        "customData": properties,
    }


def _customer(person: dict[str, Any]) -> dict[str, Any]:
    kept = ("id", "first_name", "last_name", "email", "phone")
    return {key: person[key] for key in kept} | {"default_address": _address(person)}


def _address(person: dict[str, Any]) -> dict[str, Any]:
    kept = ("first_name", "last_name", "phone", "city", "zip", "province_code", "country_code", "country")
    return {key: person[key] for key in kept} | {"address1": "Straße 1/2", "address2": None}


def _set(amount: str) -> dict[str, Any]:
    money = {"amount": amount, "currency_code": "EUR"}
    return {"shop_money": money, "presentment_money": money}


def _total(bought: list[dict[str, Any]]) -> str:
    return str(sum((Decimal(line["line_price"]) for line in bought), Decimal(0)))


def _fbp(chance: random.Random, moment: datetime) -> str:
    return f"fb.1.{int(moment.timestamp() * 1000)}.{chance.randrange(10**9)}"


def _click(chance: random.Random) -> str:
    return "IwAR" + "".join(chance.choices(_FBCLIDS, k=40))


def _word(chance: random.Random, length: int) -> str:
    return "".join(chance.choices(_LETTERS, k=length))
