"""Invoices on larger paper, forms and slips of fields, labels and tables, with what can be asked about them."""

import random
from collections.abc import Callable
from functools import partial

from ray_pipeline.synthesis import document_fields as fields
from ray_pipeline.synthesis.document_drafts import Draft, new_draft
from ray_pipeline.synthesis.document_fields import put_field
from ray_pipeline.synthesis.document_money import Coin, sample_bill, sample_coin
from ray_pipeline.synthesis.document_names import address, brand, company, day, day_printed, digits, goods, invented, person
from ray_pipeline.synthesis.document_phrases import (
    FORM_TITLES,
    TABLE_HEADS,
    TABLE_TITLES,
)
from ray_pipeline.synthesis.document_receipts import put_company, put_customer, put_day, put_head, put_sales
from ray_pipeline.synthesis.document_rows import Row
from ray_pipeline.synthesis.document_texts import Piece
from ray_pipeline.synthesis.document_totals import put_totals


def invoice(rng: random.Random) -> Draft:
    """An invoice: the seller, the customer beneath, days and numbers, articles, total, bank."""
    draft = new_draft(rng)
    draft.pairing, draft.middle = rng.choice(("joined", "columns")), rng.random() < 0.3
    coin, bill = sample_coin(rng), sample_bill(rng, 8)
    put_head(draft)
    draft.whole(
        rng.choice(("INVOICE", "Invoice", "TAX INVOICE", "Rechnung", "PROFORMA INVOICE", "Statement")),
        size=rng.choice((1.0, 1.5, 2.0)),
    )
    parts: list[Callable[[], None]] = [
        partial(put_customer, draft),
        partial(put_day, draft, ("Invoice Date", "Date", "Date", "DATE", "Dated")),
    ]
    parts += [partial(put_field, draft, rng.choice(fields.NUMBERS[:1]))]
    parts += [partial(put_field, draft, fields.DAYS[0])] if rng.random() < 0.5 else []
    parts += [partial(put_field, draft, fields.DAYS[2])] if rng.random() < 0.15 else []
    parts += [partial(put_field, draft, fields.PLACES_AT[-2])] if rng.random() < 0.4 else []
    parts += [partial(put_field, draft, rng.choice(fields.NUMBERS[6:]))] if rng.random() < 0.4 else []
    rng.shuffle(parts)
    for part in parts:
        part()
    draft.rule()
    put_sales(draft, bill, coin)
    draft.rule()
    put_totals(draft, bill, coin)
    if rng.random() < 0.5:
        bank = f"{invented(rng)} Bank {rng.choice(('Berhad', 'AG', 'Ltd', 'plc', ''))}".strip()
        draft.pair(rng.choice(("Bank", "Bankers", "Pay to", "Bank Name")), bank, "field", ("bank", "name of the bank"))
        put_field(draft, fields.PEOPLE[4])
    return draft


def form(rng: random.Random) -> Draft:
    """Fields under a heading, from a firm at times, dated at times, rarely with a sum."""
    draft = new_draft(rng)
    if rng.random() < 0.6:
        put_company(draft, company(rng) if rng.random() < 0.75 else brand(rng), rng.choice((1.0, 1.4)))
        for line in address(rng) if rng.random() < 0.4 else []:
            draft.whole(line)
    draft.whole(rng.choice(FORM_TITLES), size=rng.choice((1.0, 1.3, 1.8)), bold=rng.random() < 0.4)
    chosen: dict[str, fields.FieldKind] = {kind.group: kind for kind in rng.sample(fields.ALL, rng.randint(6, 20))}
    parts: list[Callable[[], None]] = [partial(put_field, draft, kind) for kind in chosen.values()]
    if rng.random() < 0.65:
        parts.append(partial(put_day, draft, ("Date", "Date", "DATE", "Date of Issue", "Datum", "Tarikh")))
    if rng.random() < 0.35:
        parts.append(partial(_put_sum, draft))
    rng.shuffle(parts)
    for part in parts:
        part()
        if rng.random() < 0.08:
            draft.rule()
    if rng.random() < 0.3:
        draft.put(
            Piece(
                rng.choice(("Signature", "Authorised Signature", "Received by", "Unterschrift")), rng.choice((0.0, 0.6)), "left"
            )
        )
    return draft


def _put_sum(draft: Draft) -> None:
    coin, cents = sample_coin(draft.rng), draft.rng.randint(100, 500000)
    label = draft.rng.choice(("Total", "Total Amount", "Amount", "TOTAL", "Net Pay", "Amount Payable", "Total Due"))
    draft.pair(label, coin.printed(cents), "total", ("total",), coin.number(cents))


def label(rng: random.Random) -> Draft:
    """What sticks on a product or a parcel: a name, few fields, codes, the maker at the foot."""
    draft = new_draft(rng)
    article = goods(rng)
    line = draft.whole(article, size=rng.choice((1.0, 1.6, 2.4)), bold=rng.random() < 0.5)
    draft.note("field", ("product", "name of the product"), article, line)
    chosen = {
        kind.group: kind for kind in rng.sample((*fields.PEOPLE[10:], *fields.DAYS[1:3], *fields.NUMBERS[6:]), rng.randint(3, 7))
    }
    for kind in chosen.values():
        put_field(draft, kind)
    if rng.random() < 0.4:
        coin, cents = sample_coin(rng), rng.randint(50, 20000)
        draft.pair(
            rng.choice(("Price", "MRP", "RRP")), coin.printed(cents), "field", ("price", "retail price"), coin.number(cents)
        )
    for _ in range(rng.randint(3, 7)):
        draft.put(
            Piece(
                rng.choice((goods(rng), f"{invented(rng)} {invented(rng, 1)}", f"{goods(rng)} {rng.randint(1, 99)}%")),
                0.0,
                "left",
            )
        )
    if rng.random() < 0.6:
        maker = company(rng)
        text = f"{rng.choice(('Manufactured by', 'Packed by:', 'Made by', 'Distributed by:', 'Produced by'))} {maker}"
        draft.note("maker", ("company", "manufacturer"), maker, draft.whole(text))
    for part in address(rng):
        draft.whole(part)
    if rng.random() < 0.5:
        draft.rows.append(Row("bars", (Piece(digits(rng, 12, 13), 0.5, "middle"),), height=rng.uniform(2, 4)))
    return draft


def table(rng: random.Random) -> Draft:
    """Rows and columns with heads; every cell can be asked for by both."""
    draft = new_draft(rng)
    draft.whole(rng.choice(TABLE_TITLES), size=rng.choice((1.0, 1.4)), bold=rng.random() < 0.3)
    if rng.random() < 0.4:
        printed = day_printed(rng, day(rng))
        draft.pair("Date", printed, "date", ("date",))
    columns = rng.sample(TABLE_HEADS, rng.randint(2, 5))
    stops = [0.3 + 0.7 * (k + 1) / len(columns) for k in range(len(columns))]
    draft.put(
        Piece(rng.choice(("Item", "Name", "", "Product", "No")), 0.0, "left"),
        *(Piece(c, s, "right") for c, s in zip(columns, stops, strict=True)),
    )
    draft.rule()
    names = list(
        dict.fromkeys(rng.choice((goods(rng)[:16].strip(), person(rng), invented(rng))) for _ in range(rng.randint(8, 20)))
    )
    plain, money = Coin(), rng.random() < 0.5
    for name in names:
        cells = [plain.number(rng.randint(10, 99999)) if money else str(rng.randint(0, 500)) for _ in columns]
        draft.put(Piece(name, 0.0, "left"), *(Piece(c, s, "right") for c, s in zip(cells, stops, strict=True)))
        for head, cell in zip(columns, cells, strict=True):
            if rng.random() < 0.15:
                draft.note("cell", (name, head), cell, cell)
    return draft
