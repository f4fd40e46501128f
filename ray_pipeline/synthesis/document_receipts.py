"""Receipts of tills whose parts are known: who sold, when, what for how much, what it came to and how it was paid."""

import random
from collections.abc import Callable
from functools import partial

from ray_pipeline.synthesis import document_fields as fields
from ray_pipeline.synthesis.document_drafts import BREAK, Draft, new_draft
from ray_pipeline.synthesis.document_fields import put_field, put_fields_abreast
from ray_pipeline.synthesis.document_money import Bill, Coin, Sale, sample_bill, sample_coin
from ray_pipeline.synthesis.document_names import (
    address,
    brand,
    company,
    day,
    day_printed,
    digits,
    invented,
    person,
    phone,
    registration,
    time_printed,
)
from ray_pipeline.synthesis.document_phrases import (
    COPIES,
    FEET,
    RECEIPT_KINDS,
)
from ray_pipeline.synthesis.document_rows import Row
from ray_pipeline.synthesis.document_texts import Piece
from ray_pipeline.synthesis.document_totals import put_totals


def receipt(rng: random.Random) -> Draft:
    """One receipt from the shop's sign to the thanks at the foot."""
    draft = new_draft(rng)
    coin = sample_coin(rng)
    bill = sample_bill(rng)
    put_head(draft)
    late_day = rng.random() < 0.15
    if rng.random() < 0.6:
        draft.whole(rng.choice(RECEIPT_KINDS), bold=rng.random() < 0.3)
    _put_fields(draft, dated=not late_day)
    put_decoys(draft, DECOYS_ABOVE)
    if rng.random() < 0.12:
        put_customer(draft)
    _gap(draft, 0.6)
    put_sales(draft, bill, coin)
    _gap(draft, 0.6)
    put_totals(draft, bill, coin)
    put_decoys(draft, DECOYS_BELOW)
    _put_foot(draft, dated=late_day)
    return draft


DECOYS_ABOVE: tuple[Callable[[random.Random], tuple[str, str]], ...] = (
    lambda rng: (rng.choice(("GST Reg Date", "GST Registered", "Effective Date")), day_printed(rng, day(rng))),
    lambda rng: (rng.choice(("Member Expiry", "Expiry", "Card Valid Until")), day_printed(rng, day(rng))),
    lambda rng: (rng.choice(("Amount Limit", "Credit Limit", "Opening Balance")), f"{rng.randint(10, 999)}.00"),
    lambda rng: (rng.choice(("Licensee", "Managed by", "Operated by", "Goods sold by", "Franchisee")), company(rng)),
    lambda rng: (rng.choice(("Remark", "Remarks", "Address", "Ref 2", "Note")), rng.choice((".", "-", "NIL", person(rng)))),
)  # what could be taken for the day, the firm or the total
DECOYS_BELOW: tuple[Callable[[random.Random], tuple[str, str]], ...] = (
    lambda rng: (
        rng.choice(("Valid until", "Promotion ends", "Points expire on", "Exchange before", "Redeem by")),
        day_printed(rng, day(rng)),
    ),
    lambda rng: (
        rng.choice(("Card Issuer", "Bank", "Issuer", "Acquirer")),
        f"{invented(rng)} Bank {rng.choice(('Berhad', 'Bhd', 'Ltd'))}",
    ),
    lambda rng: (rng.choice(("Software by", "POS by", "System by", "Printed by", "Website by")), company(rng)),
    lambda rng: (
        rng.choice(("Spend", "Next purchase above", "Voucher worth", "Minimum purchase")),
        f"RM{rng.choice((10, 30, 50, 100, 200))}.00",
    ),
    lambda rng: (rng.choice(("Total Points", "Points Earned Total", "TOTAL POINTS")), str(rng.randint(1, 9000))),
    lambda rng: (rng.choice(("Make cheque payable to", "Cheque payable to", "Beneficiary")), company(rng)),
)


def put_decoys(draft: Draft, makers: tuple[Callable[[random.Random], tuple[str, str]], ...]) -> None:
    """Now and then a row or two that a hasty reader would take for the day, the firm or the total."""
    rng = draft.rng
    for maker in rng.sample(makers, rng.choice((0, 0, 0, 1, 1, 2))):
        label, value = maker(rng)
        draft.pair(label, value, "field", (label.lower(),))


def put_customer(draft: Draft) -> None:
    """Whom the document is addressed to, beside or beneath a label, with the address at times."""
    rng = draft.rng
    name = company(rng) if rng.random() < 0.75 else person(rng)
    label = rng.choice(("Bill To", "Sold To", "Customer", "To", "BILL TO", "Messrs", "Attention", "M/S", "Deliver To"))
    if rng.random() < 0.5:
        draft.pair(label, name, "customer", ("customer", "name of the customer"))
    else:
        draft.put(Piece(f"{label}:", 0.0, "left"))
        draft.put(Piece(name, 0.0, "left"))
        draft.note("customer", ("customer", "name of the customer"), name, name, label)
    for line in address(rng)[: rng.randint(0, 3)]:
        draft.put(Piece(line, 0.0, "left"))


def _gap(draft: Draft, share: float) -> None:
    if draft.rng.random() < share:
        draft.rule()


def put_head(draft: Draft) -> None:
    """The firm with what stands around its name: signs above, branch and numbers beneath, address, telephone."""
    rng = draft.rng
    if rng.random() < 0.12:
        draft.rows.append(Row("drawing", height=rng.uniform(2, 5)))
    loud = rng.choice((1.0, 1.0, 1.0, 1.2, 1.4, 1.8))
    named = put_above(draft, loud)
    put_company(draft, named, loud)
    if rng.random() < 0.12:
        draft.whole(
            rng.choice(
                (
                    f"(Formerly known as {company(rng)})",
                    f"({brand(rng)})",
                    f"Branch: {brand(rng)}",
                    f"Outlet {rng.randint(2, 80)}",
                )
            )
        )
    where = address(rng)
    parts: list[Callable[[], None]] = [partial(_put_lines, draft, where)]
    for kind, share in zip(fields.HEAD, (0.7, 0.35, 0.18, 0.12, 0.4, 0.55, 0.08, 0.05), strict=True):
        if rng.random() < share:
            parts.append(partial(put_head_field, draft, kind))
    if rng.random() < 0.3:
        rng.shuffle(parts)
    for part in parts:
        part()


def _put_lines(draft: Draft, lines: list[str]) -> None:
    for k, line in enumerate(lines):
        shown = draft.whole(line)
        if k == 0 and len(lines) == 1:
            draft.note("address", ("address",), line, shown)
        elif k == 0:
            draft.note("address", ("first line of the address",), line, shown)


def put_head_field(draft: Draft, kind: fields.FieldKind) -> None:
    """A field of the head, in the manner of the head, sometimes with a second one in the same row."""
    rng = draft.rng
    label, value = rng.choice(kind.labels), kind.value(rng)
    sign = rng.choice((": ", ":", " : ", " ", ". "))
    text = f"{label}{sign}{value}"
    if kind.group == "registration" and rng.random() < 0.25:
        label, text = "", f"({value})"
    if kind.group == "phone" and rng.random() < 0.15:
        other = phone(rng)
        text = f"{text} {rng.choice(('Fax', 'FAX', 'F'))}{sign}{other}"
        draft.note("field", ("fax number",), other, text, "Fax")
    elif kind.group in ("tax number", "registration") and rng.random() < 0.15:
        text = f"({text})"
    draft.note("field", kind.names, value, draft.whole(text), label)


def put_above(draft: Draft, loud: float) -> str:
    """What stands above the firm's name, if anything; the firm's name."""
    rng = draft.rng
    draw = rng.random()
    named = company(rng)
    if draw < 0.1:
        draft.whole(rng.choice(COPIES))
    elif draw < 0.18:
        draft.whole(person(rng).lower() if rng.random() < 0.5 else person(rng))
    elif draw < 0.27:
        draft.whole(brand(rng).split()[0], size=max(loud, 1.4), bold=True)
        legal = any(named.lower().rstrip(".").endswith(end) for end in ("bhd", "ltd", "s/b", "gmbh", "inc", "llc"))
        named = named if legal else f"{named} SDN BHD"
    elif draw < 0.31:
        draft.whole(
            rng.choice(
                (digits(rng, 4, 8), f"{day_printed(rng, day(rng))} {time_printed(rng)}"[:0] or digits(rng, 3, 5), "Page 1")
            )
        )
    return named


def put_company(draft: Draft, named: str, loud: float) -> None:
    """The firm's name on one or two rows, its registration number behind it at times."""
    rng = draft.rng
    kept, draft.upper = draft.upper, draft.upper or rng.random() < 0.5
    words, bold = named.split(), rng.random() < 0.3
    if len(words) > 2 and len(named) > 16 and rng.random() < 0.15:
        cut = rng.randint(1, len(words) - 1)
        first, second = draft.whole(" ".join(words[:cut]), loud, bold), draft.whole(" ".join(words[cut:]), loud, bold)
        draft.note("company", ("company",), named, first + BREAK + second)
    else:
        behind = rng.random()
        number = f" ({registration(rng)})" if behind < 0.18 else f" {registration(rng)}" if behind < 0.22 else ""
        line = draft.whole(named + number, loud if not number else 1.0, bold)
        draft.note("company", ("company",), named, line)
        if number:
            draft.note("field", ("company registration number",), number.strip(" ").removeprefix("(").removesuffix(")"), line)
    draft.upper = kept


def put_day(
    draft: Draft, labels: tuple[str, ...] = ("Date", "DATE", "Date", "Tarikh", "Inv Date", "Invoice Date", "Bill Date", "Datum")
) -> None:
    """The day of the document, with the time before, behind or in a field of its own."""
    rng = draft.rng
    printed, clocked = day_printed(rng, day(rng)), time_printed(rng)
    label = rng.choice(labels)
    draw = rng.random()
    noted: str
    if draw < 0.3:
        noted = draft.paired(label, printed)
        if rng.random() < 0.5:
            draft.pair(rng.choice(("Time", "Time", "TIME", "Masa", "Uhrzeit")), clocked, "time", ("time",))
    elif draw < 0.52:
        noted = draft.paired(rng.choice((label, "Date/Time", "DATE / TIME", "Date & Time", label)), f"{printed} {clocked}")
        draft.note("time", ("time",), clocked, noted)
    elif draw < 0.7:
        noted = rng.choice(
            (
                f"{printed} {clocked}",
                f"{printed} {clocked}",
                f"{clocked} {printed}",
                f"{printed}  {clocked} {digits(rng, 3, 6)}",
                f"{digits(rng, 3, 6)} {printed} {clocked}",
            )
        )
        draft.put(Piece(noted, *rng.choice(((0.0, "left"), (0.0, "left"), (0.5, "middle")))))
        draft.note("time", ("time",), clocked, noted)
    elif draw < 0.8:
        noted, other = printed, clocked
        left, right = (noted, other) if rng.random() < 0.75 else (other, noted)
        draft.put(Piece(left, 0.0, "left"), Piece(right, 1.0, "right"))
        draft.note("time", ("time",), clocked, clocked)
    elif draw < 0.93:
        signs = draft.colon if draft.colon.strip() else ": "
        noted, other = f"{label}{signs}{printed}", f"{rng.choice(('Time', 'TIME', 'Time'))}{signs}{clocked}"
        draft.put(Piece(noted, 0.0, "left"), rng.choice((Piece(other, 1.0, "right"), Piece(other, 0.55, "left"))))
        draft.note("time", ("time",), clocked, other)
    elif draw < 0.96:
        kind = rng.choice(fields.NUMBERS)
        named, value = rng.choice(kind.labels), kind.value(rng)
        front, noted = f"{named}{draft.colon}{value}", rng.choice((printed, f"{label}{draft.colon}{printed}"))
        draft.put(Piece(front, 0.0, "left"), Piece(noted, 1.0, "right"))
        draft.note("field", kind.names, value, front, named)
    else:
        noted = printed
        draft.put(Piece(noted, 0.0, "left"))
    draft.note("date", ("date",), printed, noted)


def _put_fields(draft: Draft, dated: bool) -> None:
    rng = draft.rng
    kinds = [rng.choice(fields.NUMBERS)] if rng.random() < 0.85 else []
    kinds += [rng.choice(fields.STAFF)] if rng.random() < 0.65 else []
    kinds += rng.sample(fields.PLACES_AT, rng.choice((0, 0, 1, 1, 2, 3)))
    kinds += [rng.choice(fields.MEMBERS)] if rng.random() < 0.15 else []
    rng.shuffle(kinds)
    parts: list[Callable[[], None]] = []
    while kinds:
        if len(kinds) > 1 and rng.random() < 0.2:
            parts.append(partial(put_fields_abreast, draft, kinds.pop(), kinds.pop()))
        else:
            parts.append(partial(put_field, draft, kinds.pop()))
    if dated:
        parts.append(partial(put_day, draft))
    rng.shuffle(parts)
    for part in parts:
        part()


def put_sales(draft: Draft, bill: Bill, coin: Coin) -> None:
    """The articles, in one of the usual ways, with a head of columns at times."""
    rng = draft.rng
    way = rng.choice((_one_row, _one_row, _counted_row, _table_row, _table_row, _two_rows, _two_rows, _figures_first))
    if rng.random() < 0.55:
        draft.put(*_columns(rng, way))
        _gap(draft, 0.4)
    sign, mark = coin if rng.random() < 0.15 else Coin(comma=coin.comma, thousands=coin.thousands), ""
    if rng.random() < 0.3:
        mark = rng.choice((" SR", " ZRL", "S", " S", " *", " T", " A", " Z", " SR"))
    for sale in bill.sales:
        way(draft, sale, sign, mark)


def _columns(rng: random.Random, way: Callable[[Draft, Sale, Coin, str], None]) -> list[Piece]:
    first = rng.choice(
        ("Item", "Description", "DESCRIPTION", "Items", "Item Description", "Particulars", "Qty Item", "Code/Desc")
    )
    last = rng.choice(("Amount", "AMT", "Amt", "Total", "Amount(RM)", "RM", "Price", "Amt(RM)", "Total (RM)", "Nett"))
    if way in (_table_row, _two_rows, _figures_first):
        middle = [
            Piece(rng.choice(("Qty", "QTY", "Qty.")), 0.6, "right"),
            Piece(rng.choice(("Price", "U.Price", "U/P", "Unit Price")), 0.8, "right"),
        ]
        return [Piece(first, 0.0, "left"), *middle, Piece(last, 1.0, "right")]
    return [Piece(first, 0.0, "left"), Piece(last, 1.0, "right")]


def _note_price(draft: Draft, sale: Sale, coin: Coin, line: str, each: str = "", count: str = "") -> None:
    """Prices that a user may ask for; `each` and `count` are the pieces with the price of one and with the quantity."""
    article = sale.article
    if sale.count == 1:
        draft.note("price", (article,), coin.number(sale.cents), line)
    else:
        draft.note("amount", (article,), coin.number(sale.cents), line)
        if each:
            draft.note("unit price", (article,), coin.number(sale.each_cents), each)
    if count:
        draft.note("quantity", (article,), str(sale.count), count)


def _one_row(draft: Draft, sale: Sale, coin: Coin, mark: str) -> None:
    front = sale.article if sale.count == 1 else f"{sale.article} x{sale.count}"
    line = coin.printed(sale.cents) + mark
    draft.put(Piece(front, 0.0, "left"), Piece(line, 1.0, "right"))
    _note_price(draft, sale, coin, line, count=front if sale.count > 1 else "")


def _counted_row(draft: Draft, sale: Sale, coin: Coin, mark: str) -> None:
    line = coin.printed(sale.cents) + mark
    if draft.stop < 0.31:
        front = f"{sale.count}"
        draft.put(Piece(front, 0.0, "left"), Piece(sale.article, 0.1, "left"), Piece(line, 1.0, "right"))
    else:
        front = f"{sale.count} {'x ' if draft.upper else ''}{sale.article}"
        draft.put(Piece(front, 0.0, "left"), Piece(line, 1.0, "right"))
    _note_price(draft, sale, coin, line, count=front)


def _table_row(draft: Draft, sale: Sale, coin: Coin, mark: str) -> None:
    each, line, count = coin.number(sale.each_cents), coin.number(sale.cents) + mark, str(sale.count)
    draft.put(
        Piece(sale.article[:20], 0.0, "left"), Piece(count, 0.6, "right"), Piece(each, 0.8, "right"), Piece(line, 1.0, "right")
    )
    if len(sale.article) <= 20:
        _note_price(draft, sale, coin, line, each, count)


def _two_rows(draft: Draft, sale: Sale, coin: Coin, mark: str) -> None:
    rng = draft.rng
    draft.put(Piece(sale.article, 0.0, "left"))
    line = coin.printed(sale.cents) + mark
    front = rng.choice(
        (
            f"{sale.count} x {coin.number(sale.each_cents)}",
            f"{sale.count} @ {coin.number(sale.each_cents)}",
            f"{sale.count} X {coin.number(sale.each_cents)}",
        )
    )
    pieces = [Piece(front, rng.choice((0.1, 0.3)), "left"), Piece(line, 1.0, "right")]
    if rng.random() < 0.35:
        pieces = [Piece(digits(rng, 8, 13), 0.0, "left"), Piece(front, 0.5, "left"), Piece(line, 1.0, "right")]
    draft.put(*pieces)
    _note_price(draft, sale, coin, line, front, front)


def _figures_first(draft: Draft, sale: Sale, coin: Coin, mark: str) -> None:
    line, each, count = coin.number(sale.cents) + mark, coin.number(sale.each_cents), str(sale.count)
    front = digits(draft.rng, 6, 13)
    draft.put(Piece(front, 0.0, "left"), Piece(count, 0.6, "right"), Piece(each, 0.8, "right"), Piece(line, 1.0, "right"))
    draft.put(Piece(sale.article, 0.0, "left"))
    _note_price(draft, sale, coin, line, each, count)


def _put_foot(draft: Draft, dated: bool) -> None:
    rng = draft.rng
    if rng.random() < 0.15:
        for kind in rng.sample(fields.CARDS, rng.randint(1, 3)):
            put_field(draft, kind)
    if rng.random() < 0.08:
        put_field(draft, fields.DAYS[1])
    if rng.random() < 0.1:
        put_field(draft, fields.MEMBERS[1])
    days = [fact.answer for fact in draft.facts if fact.role == "date"]
    if dated and rng.random() < 0.9:
        put_day(draft)
    elif days and rng.random() < 0.1:
        draft.whole(f"{rng.choice(('', '', 'Printed on ', 'Print Date: '))}{days[0]} {time_printed(rng)}")
    _gap(draft, 0.5)
    for line in rng.sample(FEET, rng.randint(1, 7)):
        draft.whole(f"Powered by {company(rng)}" if line == "Powered by" else line)
    if rng.random() < 0.12:
        figures = (Piece(digits(rng, 10, 13), 0.5, "middle"),) if rng.random() < 0.6 else ()
        draft.rows.append(Row("bars", figures, height=rng.uniform(2, 4)))
