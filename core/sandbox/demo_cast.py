"""The demo's cast: some 60 shops, who owns them, and the state of health in which the curtain rises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core.store.health import Health

_H = Health


@dataclass(frozen=True, slots=True)
class Owner:
    """One merchant and the shops that share one token. `days` until the token's stored end, where it has one."""

    email: str
    health: Health
    shops: tuple[tuple[str, str, str], ...]
    days: float | None = None
    # How Meta sees it: same_token (does not extend it), over (its end has passed there too), foreign (another app's).
    at_meta: str | None = None


# Three that the story is told with; see core.sandbox.demo.
PASSES_ITS_END: Final = "mira@kaffee-zoe.example"
DIES_AT_META: Final = "post@bjoernsen.example"
SENDS_NONSENSE: Final = "hola@librosnandu.example"

OWNERS: Final[tuple[Owner, ...]] = (
    Owner(
        PASSES_ITS_END,
        _H.EXPIRING_SOON,
        (
            ("Café Zoë", "cafe-zoe", "EUR"),
            ("Café Zoë Geschenke", "cafe-zoe-geschenke", "EUR"),
            ("Rösterei Zoë", "roesterei-zoe", "EUR"),
        ),
        0.001,
    ),
    Owner(DIES_AT_META, _H.VALID, (("Bjørnsen Læder", "bjornsen", "DKK"),), 41),
    Owner(SENDS_NONSENSE, _H.VALID, (("Libros Ñandú", "libros-nandu", "EUR"), ("Papelería Ñandú", "nandu", "EUR")), 52),
    Owner(
        "agentur@leuchtturm.example",
        _H.VALID,
        (
            ("Leuchtturm Outdoor", "leuchtturm-outdoor", "EUR"),
            ("Blumen Grünwald", "blumen-gruenwald", "EUR"),
            ("Fahrrad Köhler", "fahrrad-koehler", "EUR"),
            ("Bäckerei Süß", "baeckerei-suess", "EUR"),
            ("Möbelhaus Österle", "oesterle", "EUR"),
            ("Spielzeug Weiß", "spielzeug-weiss", "EUR"),
        ),
        59.55,
    ),
    Owner(
        "ops@northwind.example",
        _H.VALID,
        (("Northwind Coffee", "northwind-coffee", "USD"), ("Northwind Tea", "northwind-tea", "USD")),
        59.72,
    ),
    Owner("minh@phonguyen.example", _H.VALID, (("Phở Nguyễn", "pho-nguyen", "EUR"),), 35),
    Owner("wang@matcha.example", _H.VALID, (("抹茶工房", "matcha-kobo", "JPY"), ("和紙堂", "washido", "JPY")), 59.12),
    Owner("łukasz@żółty.example", _H.VALID, (("Żółty Rower", "zolty-rower", "PLN"),), 33),
    Owner("anais@noemie.example", _H.VALID, (("Chez Noémie", "chez-noemie", "EUR"),), 55),
    Owner("siobhan@croi.example", _H.VALID, (("Croí Éireann", "croi", "EUR"), ("An Siopa Bán", "siopa-ban", "EUR"))),
    Owner("owner@oconnor.example", _H.VALID, (("O'Connor & Søn", "oconnor-son", "GBP"),), 44),
    Owner("bar@tapas.example", _H.VALID, (("Peña Única", "pena-unica", "EUR"),), 59.31),
    Owner(
        "salon@nour.example", _H.VALID, (("صالون نور", "salon-nour", "AED"), ("عطور نور", "nour-perfumes", "AED")), 37
    ),
    Owner("dimitris@elies.example", _H.VALID, (("Ελιές Κρήτης", "elies-kritis", "EUR"),), 50),
    Owner("ivan@samovar.example", _H.VALID, (("Самовар и чай", "samovar", "EUR"),), 42),
    Owner(
        "priya@rangoli.example", _H.VALID, (("रंगोली साड़ी", "rangoli", "INR"), ("Rangoli Home", "rangoli-home", "INR"))
    ),
    Owner("kim@hanok.example", _H.VALID, (("한옥 도자기", "hanok", "USD"),), 59.86),
    Owner("team@sockenschuss.example", _H.VALID, (("Sockenschuß 🧦", "sockenschuss", "EUR"),), 49),
    Owner("sven@fjall.example", _H.RENEWING, (("Fjäll & Ström", "fjall-strom", "SEK"),), 28, "same_token"),
    Owner(
        "maria@saudade.example",
        _H.RENEWING,
        (("Saudade Cerâmica", "saudade", "EUR"), ("Azulejos São João", "azulejos", "EUR")),
        26,
    ),
    Owner("jose@cafeolé.example", _H.RENEWING, (("Café Olé", "cafe-ole", "MXN"),), 24),
    Owner("info@tannenhof.example", _H.RENEWING, (("Tannenhof Käse", "tannenhof", "CHF"),), 19, "same_token"),
    Owner(
        "hei@sisu.example", _H.RENEWING, (("Sisu Sauna", "sisu-sauna", "EUR"), ("Yö & Päivä", "yo-paiva", "EUR")), 16
    ),
    Owner("bruno@gelato.example", _H.RENEWING, (("Gelato Perché No!", "gelato", "EUR"),), 11),
    Owner("ayşe@lokum.example", _H.EXPIRING_SOON, (("Lokum Şekerci", "lokum", "TRY"),), 6.2, "same_token"),
    Owner("tom@kiwi.example", _H.EXPIRING_SOON, (("Kiwi & Pāua", "kiwi-paua", "NZD"),), 4.4),
    Owner(
        "eva@hrnek.example",
        _H.EXPIRING_SOON,
        (("Hrneček & Čaj", "hrnecek", "CZK"), ("Knihy U Řeky", "knihy-reky", "CZK")),
        2.6,
        "same_token",
    ),
    Owner("lou@surf.example", _H.EXPIRING_SOON, (("Lou’s Surf Shack", "lous-surf", "USD"),), 1.3),
    Owner("pal@bögre.example", _H.EXPIRED, (("Bögre Pál", "bogre-pal", "HUF"),), -1.2),
    Owner(
        "nina@retro.example",
        _H.EXPIRED,
        (("Retro Špajza", "retro-spajza", "EUR"), ("Špajza 2", "spajza-2", "EUR")),
        -4,
        "over",
    ),
    Owner("old@vinyl.example", _H.EXPIRED, (("Vinyl & Dust", "vinyl-dust", "USD"),), -9, "over"),
    Owner("hello@plugin.example", _H.NO_EXPIRY, (("Plug-in Plants", "plug-in-plants", "USD"),), None, "foreign"),
    Owner("jean@foret.example", _H.NO_EXPIRY, (("La Forêt d’Été", "la-foret", "EUR"),), None, "foreign"),
    Owner("dev@zażółć.example", _H.NO_EXPIRY, (("Zażółć Gęślą", "zazolc", "PLN"),), None, "foreign"),
    Owner(
        "system@grossmann.example",
        _H.NEVER,
        (
            ("Großmann Werkzeug", "grossmann", "EUR"),
            ("Großmann Garten", "grossmann-garten", "EUR"),
            ("Großmann Haus", "grossmann-haus", "EUR"),
        ),
    ),
    Owner("it@smorrebrod.example", _H.NEVER, (("Smørrebrød & Co", "smorrebrod", "DKK"),)),
    Owner("bot@pixelbakery.example", _H.NEVER, (("Pixel Bakery <3", "pixel-bakery", "USD"),)),
    Owner("rosa@alpaca.example", _H.NEEDS_RECONNECT, (("Alpaca Niño", "alpaca-nino", "PEN"),), 22, "over"),
    Owner(
        "greta@naeh.example",
        _H.NEEDS_RECONNECT,
        (("Nähstübchen", "naehstuebchen", "EUR"), ("Stoff & Faden", "stoff-faden", "EUR")),
        -0.7,
        "over",
    ),
    Owner("ali@halı.example", _H.NEEDS_RECONNECT, (("Halı Dünyası", "hali", "TRY"),), 31, "over"),
)

# Shops with long ends of their own when the table names none.
USUAL_DAYS: Final = 53.0

QUIET: Final = frozenset({Health.EXPIRED, Health.NEEDS_RECONNECT})
