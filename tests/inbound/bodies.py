"""Bodies of our own making: what a storefront and Shopify send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

SHOP = "lantern-and-loom.myshopify.com"
SECRET = "shpss_made_up_for_tests"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tracking(**changes: Any) -> dict[str, Any]:
    body = {
        "appId": "app_public",
        "eventName": "addToCart",
        "url": "https://lantern-and-loom.com/products/lamp?utm_source=x",
        "referrer": "",
        "pageTitle": "Lamp",
        "sessionId": "s-1",
        "visitorId": "visitor-7",
        "language": "en",
        "screenWidth": 1280,
        "screenHeight": 800,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    goods = {"value": 59.9, "currency": "eur", "product_id": "8801", "product_name": "Brass lamp", "quantity": 2}
    return {**body, **goods, "customData": goods, **changes}


def line(**changes: Any) -> dict[str, Any]:
    return {
        "product_id": 9007199254740993,
        "variant_id": 9223372036854775807,
        "sku": "LAMP-B",
        "quantity": 2,
        "price": "25.00",
        "total_discount": "0.00",
        "discount_allocations": [{"amount": "5.01"}],
        **changes,
    }


def address(**changes: Any) -> dict[str, Any]:
    return {
        "first_name": "Ana",
        "last_name": "Conti",
        "city": "Turin",
        "zip": "10121",
        "province_code": "TO",
        "country_code": "IT",
        "phone": "011 555 0142",
        **changes,
    }


def order(**changes: Any) -> dict[str, Any]:
    return {
        "id": 18446744073709551617,
        "checkout_token": "ck-31f0",
        "cart_token": "ct-9",
        "created_at": _recently(),
        "currency": "EUR",
        "total_price": "44.99",
        "financial_status": "paid",
        "test": False,
        "cancelled_at": None,
        "source_name": "web",
        "email": "Ana.Conti@Example.com ",
        "phone": None,
        "browser_ip": "93.184.216.34",
        "client_details": {"browser_ip": "93.184.216.34", "user_agent": BROWSER},
        "landing_site": "/collections/light?utm_source=news&fbclid=IwAbC_9&token=hidden",
        "customer": {"id": 77, "email": "other@example.com", "default_address": None},
        "billing_address": address(),
        "shipping_address": [],
        "line_items": [line(), line(variant_id=None, price="3.00")],
        "note_attributes": [{"name": "_fbp", "value": "fb.1.1760000000000.1234567890"}],
        **changes,
    }


def checkout(**changes: Any) -> dict[str, Any]:
    return {
        "token": "ck-31f0",
        "cart_token": "ct-9",
        "created_at": _recently(),
        "currency": "EUR",
        "total_price": "44.99",
        "email": "ana.conti@example.com",
        "completed_at": None,
        "line_items": [line(quantity=3)],
        **changes,
    }


def cart(**changes: Any) -> dict[str, Any]:
    price = {"shop_money": {"amount": "20.00", "currency_code": "EUR"}}
    lines = [
        line(line_price="40.00", discounted_price="20.00", price_set=price),
        line(line_price="1.005", discounted_price="1.005", price_set=price, quantity=1),
    ]
    return {"id": "Z2NwLWV1", "token": "Z2NwLWV1?key=2b", "created_at": _recently(), "line_items": lines, **changes}


def bags(shop: str, paid: str, *, shop_code: str = "AUD", paid_code: str = "USD") -> dict[str, Any]:
    """One amount as Shopify states it twice: in the shop's money and in the buyer's."""
    return {
        "shop_money": {"amount": shop, "currency_code": shop_code},
        "presentment_money": {"amount": paid, "currency_code": paid_code},
    }


def order_from_abroad(**changes: Any) -> dict[str, Any]:
    """A shop in Australia, a buyer who paid in US dollars: two for 20.00, a discount of 4.00, shipping 9.00."""
    goods = line(
        quantity=2,
        price="26.32",
        price_set=bags("26.32", "20.00"),
        total_discount="0.00",
        total_discount_set=bags("0.00", "0.00"),
        discount_allocations=[{"amount": "5.26", "amount_set": bags("5.26", "4.00")}],
    )
    money = {
        "currency": "AUD",
        "presentment_currency": "USD",
        "total_price": "59.22",
        "total_price_set": bags("59.22", "45.00"),
        "subtotal_price": "47.38",
        "subtotal_price_set": bags("47.38", "36.00"),
    }
    return order(**money, line_items=[goods], **changes)


def cart_from_abroad(**changes: Any) -> dict[str, Any]:
    goods = line(
        quantity=3,
        price="26.32",
        price_set=bags("26.32", "20.00"),
        discounted_price="25.00",
        discounted_price_set=bags("25.00", "19.00"),
        line_price="75.00",
        line_price_set=bags("75.00", "57.00"),
    )
    return cart(line_items=[goods], **changes)


def signature(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def headers(body: bytes, topic: str, *, shop: str = SHOP, secret: str = SECRET, **more: str) -> dict[str, str]:
    return {
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": shop,
        "X-Shopify-Webhook-Id": "wh-1",
        "X-Shopify-Hmac-Sha256": signature(body, secret),
        "Content-Type": "application/json",
        **more,
    }


def raw(body: Any) -> bytes:
    """JSON as Shopify writes it: the slash is escaped."""
    return json.dumps(body).replace("/", "\\/").encode()


def _recently() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()
