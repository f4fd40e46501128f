"""The foot of a bill: sums before the total, the total itself among them, payment and tax summary."""

import random
from typing import Literal

from ray_pipeline.synthesis.document_drafts import Draft
from ray_pipeline.synthesis.document_money import Bill, Coin
from ray_pipeline.synthesis.document_phrases import (
    CARD_PAYMENTS,
    CASH_PAYMENTS,
    CHANGE,
    COUNTS,
    DISCOUNTS,
    INCLUDED_TAXES,
    ROUNDED,
    ROUNDINGS,
    SERVICES,
    SUBTOTALS,
    TAXED,
    TAXES,
    TOTALS,
    UNTAXED,
)
from ray_pipeline.synthesis.document_texts import Piece


class _Foot:
    """How the sums of one document stand: label and amount in one piece, or the amount at the right edge."""

    def __init__(self, draft: Draft, coin: Coin) -> None:
        rng = draft.rng
        self.draft, self.coin = draft, coin
        self.place = rng.choices(("left", "inner", "right", "joined"), (0.55, 0.15, 0.2, 0.1))[0]
        self.inner = rng.choice((0.2, 0.3, 0.4))
        self.colon = rng.choice(("", "", ":", " :", ":"))
        self.split = coin.before.strip() and rng.random() < 0.25
        self.capitals = rng.random() < 0.3

    def sum(
        self, label: str, cents: int, role: str, *names: str, minus: bool = False, size: float = 1.0, bold: bool = False
    ) -> None:
        """One row with its amount; `minus` for what is taken off."""
        coin, draft = self.coin, self.draft
        sign = (coin.before or coin.behind).strip()
        label = label.replace("RM", sign) if sign else label
        label = label.upper() if self.capitals else label
        number = coin.number(-cents if minus else cents)
        text = coin.printed(-cents if minus else cents)
        if sign and sign in label:
            text = number
        colon = self.colon
        if self.place == "joined":
            text = f"{label}{colon or ' '}{'' if colon in ('', ' ') else ' '}{text}"
            draft.put(Piece(text, 0.0, "left"), size=size, bold=bold)
        else:
            where = {"left": Piece(label + colon, 0.0, "left"), "inner": Piece(label + colon, self.inner, "left")}
            front = where.get(self.place) or Piece(label + colon, 0.74, "right")
            if self.split and text != number:
                text = number
                draft.put(front, Piece(coin.before.strip(), 0.77, "left"), Piece(number, 1.0, "right"), size=size, bold=bold)
            else:
                draft.put(front, Piece(text, 1.0, "right"), size=size, bold=bold)
        draft.note(role, names or (role,), number, text, label)

    def beneath(self, label: str, cents: int, size: float) -> None:
        """The total on a row of its own below its label."""
        middle: tuple[float, Literal["left", "middle", "right"]] = self.draft.rng.choice(((0.5, "middle"), (1.0, "right")))
        text = self.coin.printed(cents)
        self.draft.put(Piece(label + self.colon, *middle))
        self.draft.put(Piece(text, *middle), size=size)
        self.draft.note("total", ("total",), self.coin.number(cents), text, label)

    def counted(self, label: str, count: int, cents: int) -> None:
        """The total with the number of pieces sold in the same row."""
        text, draft = self.coin.printed(cents), self.draft
        draft.put(Piece(label + self.colon, 0.0, "left"), Piece(str(count), 0.6, "right"), Piece(text, 1.0, "right"))
        draft.note("total", ("total",), self.coin.number(cents), text, label)


def put_totals(draft: Draft, bill: Bill, coin: Coin) -> None:
    """Everything from the subtotal to the change. What is to be paid after rounding is the fact "total"."""
    rng, foot = draft.rng, _Foot(draft, coin)
    early = rng.random() < 0.5
    if early:
        _put_counts(draft, bill)
    named = _put_parts(foot, bill)
    _put_total(foot, bill, named)
    _put_payment(foot, bill)
    if not early:
        _put_counts(draft, bill)
    if rng.random() < 0.08:
        foot.sum(
            rng.choice(("TOTAL SAVINGS", "Total Saving", "You Saved", "Total Savings")),
            rng.randint(10, 3000),
            "savings",
            "total savings",
        )
    if bill.tax_percent and rng.random() < 0.3:
        _put_summary(draft, bill, coin)


def _percent(rng: random.Random, texts: list[str], bill: Bill) -> str:
    return rng.choice(texts).replace("{p}", str(bill.tax_percent))


def _put_counts(draft: Draft, bill: Bill) -> None:
    rng = draft.rng
    if rng.random() < 0.3:
        label, count = rng.choice(COUNTS), str(sum(sale.count for sale in bill.sales))
        if rng.random() < 0.5:
            draft.put(Piece(f"{label}: {count}", 0.0, "left"))
            draft.note("count", ("number of items", "total quantity"), count, f"{label}: {count}", label)
        else:
            draft.put(Piece(f"{label} :", 0.0, "left"), Piece(count, rng.choice((0.4, 0.6, 1.0)), "right"))
            draft.note("count", ("number of items", "total quantity"), count, count, label)


def _put_parts(foot: _Foot, bill: Bill) -> bool:
    """Sums before the total; whether one of them was already what it comes to including tax."""
    rng = foot.draft.rng
    steps = bill.discount_cents or bill.service_cents or (bill.tax_cents and not bill.inclusive)
    if rng.random() < (0.75 if steps else 0.35):
        foot.sum(rng.choice(SUBTOTALS), bill.goods_cents, "subtotal", "subtotal", "sub total")
    if bill.discount_cents and rng.random() < 0.9:
        foot.sum(rng.choice(DISCOUNTS), bill.discount_cents, "discount", minus=rng.random() < 0.5)
    elif rng.random() < 0.1 and not bill.discount_cents:
        foot.sum(rng.choice(DISCOUNTS), 0, "discount")
    if bill.service_cents:
        foot.sum(rng.choice(SERVICES), bill.service_cents, "service charge")
    named = False
    if bill.tax_percent and (not bill.inclusive or rng.random() < 0.5):
        if rng.random() < (0.8 if bill.inclusive else 0.4):
            untaxed = bill.before_rounding_cents - bill.tax_cents
            foot.sum(_percent(rng, UNTAXED, bill), untaxed, "untaxed", "total excluding tax", "total excluding GST")
            label = _percent(rng, TAXES, bill)
        else:
            label = _percent(rng, INCLUDED_TAXES if bill.inclusive else TAXES, bill)
        foot.sum(label, bill.tax_cents, "tax", "tax", "tax amount", "GST amount")
        if bill.rounding_cents and rng.random() < 0.5:
            foot.sum(_percent(rng, TAXED, bill), bill.before_rounding_cents, "unrounded", "total before rounding")
            named = True
    return named


def _put_total(foot: _Foot, bill: Bill, named: bool) -> None:
    rng = foot.draft.rng
    if bill.rounding_cents or rng.random() < 0.25:
        if not named and bill.rounding_cents and rng.random() < 0.4:
            foot.sum(
                rng.choice(("Total", "TOTAL", "Total Sales", "Total Amount", "Bill Amount")),
                bill.before_rounding_cents,
                "unrounded",
                "total before rounding",
            )
        foot.sum(rng.choice(ROUNDINGS), bill.rounding_cents, "rounding", "rounding adjustment", "rounding")
        label = rng.choice(ROUNDED) if rng.random() < 0.35 else rng.choice(TOTALS)
    else:
        label = _percent(rng, TAXED, bill) if bill.tax_percent and rng.random() < 0.35 else rng.choice(TOTALS)
    if bill.discount_cents == 0 and rng.random() < 0.05:
        foot.sum(rng.choice(("Total Discount", "Deposit", "Total Disc", "Voucher")), 0, "nothing")
    loud, bold = rng.choice((1.0, 1.0, 1.0, 1.0, 1.3, 1.6, 2.0)), rng.random() < 0.35
    if rng.random() < 0.15:
        foot.draft.rule()
    if rng.random() < 0.05:
        foot.beneath(label, bill.total_cents, loud)
    elif rng.random() < 0.06:
        foot.counted(label, sum(sale.count for sale in bill.sales), bill.total_cents)
    else:
        foot.sum(label, bill.total_cents, "total", size=loud, bold=bold)
    if bill.inclusive and bill.tax_percent and rng.random() < 0.12:
        amount = foot.coin.number(bill.tax_cents)
        foot.draft.whole(
            rng.choice(("(Including GST {a})", "Total includes GST of {a}", "GST included in total {a}")).format(a=amount)
        )
    if rng.random() < 0.1:
        foot.draft.rule()


def _put_payment(foot: _Foot, bill: Bill) -> None:
    rng = foot.draft.rng
    if bill.tendered_cents:
        foot.sum(rng.choice(CASH_PAYMENTS), bill.tendered_cents, "cash", "cash", "amount of cash", "amount tendered")
        if bill.change_cents or rng.random() < 0.7:
            foot.sum(rng.choice(CHANGE), bill.change_cents, "change", "change", "amount of change")
    elif rng.random() < 0.6:
        foot.sum(rng.choice(CARD_PAYMENTS), bill.total_cents, "card", "amount paid by card", "card payment")


def _put_summary(draft: Draft, bill: Bill, coin: Coin) -> None:
    """The table of tax codes; its own sums are no total of the bill."""
    rng, plain = draft.rng, Coin(comma=coin.comma, thousands=coin.thousands)
    net, stops = bill.before_rounding_cents - bill.tax_cents, rng.choice(((0.65, 1.0), (0.6, 0.9), (0.7, 1.0)))
    draft.rule()
    draft.put(
        Piece(rng.choice(("GST Summary", "GST SUMMARY", "Tax Summary", "GST Code", "Tax Code")), 0.0, "left"),
        Piece(rng.choice(("Amount(RM)", "Amt (RM)", "Amount", "Goods Amt")), stops[0], "right"),
        Piece(rng.choice(("Tax(RM)", "Tax (RM)", "Tax", "GST")), stops[1], "right"),
    )
    code = rng.choice(
        (
            f"SR @ {bill.tax_percent}%",
            f"SR({bill.tax_percent}%)",
            "SR",
            f"S = {bill.tax_percent}%",
            f"SR {bill.tax_percent}.00%",
            "T1",
        )
    )
    rows = [(code, net, bill.tax_cents)]
    rows += [(rng.choice(("ZRL @ 0%", "ZR", "Z = 0%")), 0, 0)] if rng.random() < 0.3 else []
    rows += [(rng.choice(("Total", "TOTAL", "Total :")), net, bill.tax_cents)] if rng.random() < 0.3 else []
    for label, amount, tax in rows:
        draft.put(
            Piece(label, 0.0, "left"), Piece(plain.number(amount), stops[0], "right"), Piece(plain.number(tax), stops[1], "right")
        )
