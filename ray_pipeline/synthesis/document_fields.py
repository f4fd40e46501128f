"""The fields of documents: what users call them, how documents print their labels, and what values look like."""

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from ray_pipeline.synthesis.document_drafts import Draft
from ray_pipeline.synthesis.document_money import Coin
from ray_pipeline.synthesis.document_names import (
    day,
    day_printed,
    digits,
    invented,
    person,
    phone,
    registration,
    tax_number,
    time_printed,
)
from ray_pipeline.synthesis.document_texts import Piece

_DOMAINS = (".com", ".com.my", ".net", ".de", ".sg", ".co.uk")


@dataclass(frozen=True)
class FieldKind:
    """Names a user may say, labels a document may print, and a maker of values. Kinds of one `group` could be confused."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    value: Callable[[random.Random], str]
    group: str


def code(rng: random.Random) -> str:
    """A document number: figures with letters, dashes or slashes at times."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 4)))
    return rng.choice(
        (
            digits(rng, 3, 6),
            digits(rng, 4, 8),
            digits(rng, 8, 14),
            f"{letters}{digits(rng, 3, 9)}",
            f"{letters}-{digits(rng, 4, 8)}",
            f"{letters[0]}{digits(rng, 2, 4)}-{digits(rng, 3, 6)}",
            f"{digits(rng, 2, 4)}/{digits(rng, 3, 6)}",
            f"#{digits(rng, 2, 6)}",
            f"{letters}{digits(rng, 2, 2)}/{digits(rng, 2, 2)}-{digits(rng, 4, 5)}",
            f"{digits(rng, 4, 4)}-{digits(rng, 2, 2)}-{digits(rng, 4, 6)}",
        )
    )


def _small(rng: random.Random) -> str:
    return rng.choice((str(rng.randint(1, 40)), f"{rng.randint(1, 99):02d}", f"{rng.choice('ABCT')}{rng.randint(1, 30)}"))


def _till(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(1, 12)}",
            f"{rng.randint(1, 20):02d}",
            f"POS{rng.randint(1, 9)}",
            f"C{digits(rng, 2, 3)}",
            f"T{rng.randint(1, 9)}",
        )
    )


def _staff(rng: random.Random) -> str:
    return rng.choice(
        (
            person(rng),
            person(rng),
            person(rng).split()[0],
            digits(rng, 2, 6),
            "Admin",
            f"Cashier {rng.randint(1, 9)}",
            "USER",
            "Manager",
        )
    )


def _card(rng: random.Random) -> str:
    return rng.choice(("XXXXXXXXXXXX", "************", "XXXX XXXX XXXX ", "****")) + digits(rng, 4, 4)


def _mail(rng: random.Random) -> str:
    return f"{rng.choice(('info', 'sales', 'enquiry', invented(rng).lower()))}@{invented(rng).lower()}{rng.choice(_DOMAINS)}"


def _site(rng: random.Random) -> str:
    return f"{rng.choice(('www.', 'www.', 'http://www.', 'https://', ''))}{invented(rng).lower()}{rng.choice(_DOMAINS)}"


def _kind(names: str, labels: str, value: Callable[[random.Random], str], group: str = "") -> FieldKind:
    called = tuple(names.split("|"))
    return FieldKind(called, tuple(labels.split("|")), value, group or called[0])


def _plate(rng: random.Random) -> str:
    return f"{''.join(rng.choices(string.ascii_uppercase, k=3))} {digits(rng, 2, 4)}"


NUMBERS = (
    _kind(
        "invoice number|invoice no",
        "Invoice No|Inv No|Invoice #|Inv. No.|Invoice Number|INV#|Tax Invoice No|Invoice No.|Inv",
        code,
        "document",
    ),
    _kind(
        "receipt number|receipt no",
        "Receipt No|Receipt #|Rcpt No|Rcpt#|Receipt|Resit No|RCPT|Receipt No.|Slip No",
        code,
        "document",
    ),
    _kind("bill number|bill no", "Bill No|Bill #|Bill|Check No|Chk|Bill No.|Check #|Bil", code, "document"),
    _kind("document number|document no", "Doc No|Document No|Doc. No.|Document No.|Doc#", code, "document"),
    _kind("cash bill number", "CB No|Cash Bill No|CS No|Cash Sale No|C/B No", code, "document"),
    _kind("transaction number|transaction id", "Trans No|Trx No|Trans ID|Transaction #|Trans|TRN|Trx|Txn No", code, "document"),
    _kind("order number|order no", "Order No|Order #|Order|SO No|Ord", code, "order"),
    _kind("reference number|reference", "Ref No|Ref|Reference|Ref. No.|Your Ref|Ref #", code, "reference"),
)
STAFF = (
    _kind("cashier|name of the cashier", "Cashier|Cashier Name|Operator|Cshr|Juruwang|CASHIER ID", _staff, "staff"),
    _kind("salesperson|sales person", "Salesperson|Sales Person|Sales|Salesman|Sales Rep", _staff, "staff"),
    _kind("server|person who served", "Served By|Server|Waiter|Served by|Staff|Attended By", _staff, "staff"),
    _kind("user", "User|User ID|Login|Created By", _staff, "staff"),
)
PLACES_AT = (
    _kind("table number|table", "Table|Table No|Tbl|Meja|Table #|TBL NO", _small),
    _kind("number of guests|pax", "Pax|Pax(s)|Guests|Covers|No. of Pax|Cover", lambda rng: str(rng.randint(1, 12))),
    _kind("counter number|counter", "Counter|Counter No|Ctr", _till, "till"),
    _kind("terminal number|terminal", "Terminal|POS|Till|POS No|Term|Reg|Register|Station|Kasse", _till, "till"),
    _kind("shift", "Shift|Shift No", lambda rng: str(rng.randint(1, 4))),
    _kind("queue number", "Queue No|Q No|Your number|Queue", lambda rng: str(rng.randint(1, 999))),
    _kind("page number|page", "Page|Page No|Pg", lambda rng: rng.choice(("1", "1 of 1", "1/2", "Page 1 of 1"))),
    _kind("pump number|pump", "Pump|Pump No|Pump #", lambda rng: f"{rng.randint(1, 16):02d}"),
    _kind("vehicle number|vehicle", "Vehicle No|Car No|Veh No|Plate No", _plate),
    _kind("store number|store", "Store|Store No|Branch|Outlet|Shop", lambda rng: rng.choice((digits(rng, 3, 5), invented(rng)))),
    _kind(
        "payment terms|terms",
        "Terms|Payment Terms|Term",
        lambda rng: rng.choice(("C.O.D.", "CASH", "30 DAYS", "Net 30", "14 Tage netto")),
    ),
    _kind(
        "order type",
        "Order Type|Service|Mode|Type",
        lambda rng: rng.choice(("Dine In", "Take Away", "Delivery", "TAKEAWAY", "Self Collect")),
    ),
)
MEMBERS = (
    _kind(
        "member number|membership number",
        "Member No|Member ID|Member|Membership No|Card ID",
        lambda rng: digits(rng, 6, 12),
        "member",
    ),
    _kind("points balance", "Points Balance|Point Bal|Balance Points|Pts Bal", lambda rng: f"{rng.randint(0, 9999)}", "points"),
    _kind("points earned", "Points Earned|Pts Earned|Points Issued", lambda rng: f"{rng.randint(1, 300)}", "points"),
    _kind("customer|customer name", "Customer|Cust|Customer Name|Name|Cust Name", person, "customer"),
)
CARDS = (
    _kind("card number|card no", "Card No|Card #|Card Number|Acct|A/C No", _card, "card"),
    _kind("approval code", "Approval Code|Appr Code|Auth Code|App Code|Approval", lambda rng: digits(rng, 6, 6)),
    _kind("batch number|batch", "Batch No|Batch|Batch #", lambda rng: digits(rng, 6, 6)),
    _kind("terminal id", "TID|Terminal ID", lambda rng: digits(rng, 8, 8), "till"),
    _kind("merchant id", "MID|Merchant ID", lambda rng: digits(rng, 10, 15)),
)
HEAD = (
    _kind(
        "phone number|telephone number|telephone",
        "Tel|TEL|Tel No|Phone|Tel.|H/P|Contact|Telephone|Hotline|Mobile",
        phone,
        "phone",
    ),
    _kind("fax number|fax", "Fax|FAX|Fax No|F", phone, "fax"),
    _kind("email address|email|e-mail", "Email|E-mail|E-Mail|email", _mail, "email"),
    _kind("website|web address", "Website|Web|URL|Visit us at", _site, "web"),
    _kind(
        "company registration number|registration number|company number",
        "Co. Reg. No|Co Reg No|Reg No|ROC No|Company No|Co. No|Company Reg No|REG NO|ROC|Business Reg. No|Co Reg|CO. REG",
        registration,
        "registration",
    ),
    _kind(
        "GST number|GST ID|GST registration number",
        "GST No|GST ID|GST Reg No|GST Reg. No|GST ID No|GST Registration No|GST REG #|GSTIN|GST",
        tax_number,
        "tax number",
    ),
    _kind(
        "SST number|SST ID",
        "SST No|SST ID|SST Reg No|SST Reg. No",
        lambda rng: f"W10-{digits(rng, 4, 4)}-{digits(rng, 8, 8)}",
        "tax number",
    ),
    _kind("VAT number|tax number", "VAT No|VAT Reg No|Tax ID|USt-IdNr.|TIN", tax_number, "tax number"),
)
DAYS = (
    _kind("due date|payment due date", "Due Date|Payment Due|Pay by|Due", lambda rng: day_printed(rng, day(rng)), "due"),
    _kind(
        "expiry date|date of expiry",
        "Expiry Date|Exp|Expiry|Valid Until|Expires|Exp. Date",
        lambda rng: day_printed(rng, day(rng)),
        "expiry",
    ),
    _kind(
        "delivery date|date of delivery", "Delivery Date|Dlv Date|Deliver on", lambda rng: day_printed(rng, day(rng)), "delivery"
    ),
    _kind("date of birth", "Date of Birth|DOB|Birth Date|Born", lambda rng: day_printed(rng, day(rng)), "birth"),
)
PEOPLE = (
    _kind("name", "Name|Full Name|Nama", person, "name"),
    _kind(
        "department",
        "Department|Dept",
        lambda rng: rng.choice(("Sales", "Finance", "Stores", "IT", "Production", "HR", "Logistics")),
    ),
    _kind(
        "position|job title",
        "Position|Job Title|Title|Designation",
        lambda rng: rng.choice(("Manager", "Clerk", "Engineer", "Driver", "Analyst")),
    ),
    _kind("employee number", "Employee No|Staff No|Emp ID", lambda rng: digits(rng, 4, 6)),
    _kind("account number", "Account No|A/C No|Acc No|Account", lambda rng: digits(rng, 8, 14), "account"),
    _kind(
        "nationality",
        "Nationality|Citizenship",
        lambda rng: rng.choice(("Malaysian", "German", "British", "Singaporean", "Spanish", "Thai")),
    ),
    _kind("passport number", "Passport No|Passport", lambda rng: f"{rng.choice('AEKH')}{digits(rng, 8, 8)}"),
    _kind("time of arrival|arrival", "Arrival|Arr|Time of Arrival", time_printed),
    _kind("gate", "Gate", lambda rng: f"{rng.choice('ABCD')}{rng.randint(1, 60)}"),
    _kind("seat|seat number", "Seat|Seat No", lambda rng: f"{rng.randint(1, 40)}{rng.choice('ABCDEF')}"),
    _kind(
        "weight",
        "Weight|Net Weight|Net Wt|Gross Weight",
        lambda rng: f"{rng.randint(1, 900)} {rng.choice(('g', 'kg', 'lb', 'KG'))}",
    ),
    _kind("lot number|lot", "Lot|Lot No|LOT", code, "lot"),
    _kind("serial number", "Serial No|S/N|Serial", code, "serial"),
    _kind("model", "Model|Model No|Type No", code, "model"),
    _kind("quantity", "Quantity|Qty", lambda rng: f"{rng.randint(1, 500)}{rng.choice(('', ' pcs', ' PCS'))}", "quantity"),
    _kind("destination|port of discharge", "Destination|Ship To|Deliver To", lambda rng: f"{invented(rng)} {invented(rng, 1)}"),
    _kind(
        "remarks",
        "Remarks|Remark|Notes",
        lambda rng: f"{invented(rng, 1)} {rng.choice(('ok', 'checked', 'urgent', 'fragile', 'as agreed'))}",
    ),
    _kind("balance|account balance", "Balance|Bal", lambda rng: Coin().number(rng.randint(100, 900000)), "balance"),
)
ALL = (*NUMBERS, *STAFF, *PLACES_AT, *MEMBERS, *CARDS, *HEAD, *DAYS, *PEOPLE)


def put_field(draft: Draft, kind: FieldKind) -> None:
    """A row with this field, and its fact."""
    value = kind.value(draft.rng)
    draft.pair(draft.rng.choice(kind.labels), value, "field", kind.names)


def put_fields_abreast(draft: Draft, one: FieldKind, other: FieldKind) -> None:
    """A row with two fields, the second from the middle on or at the right edge."""
    rng, pieces = draft.rng, []
    sign = draft.colon if draft.colon.strip() else ": "
    for kind in (one, other):
        printed, value = rng.choice(kind.labels), kind.value(rng)
        text = f"{printed}{sign}{value}"
        place = Piece(text, 0.0, "left") if kind is one else rng.choice((Piece(text, 0.55, "left"), Piece(text, 1.0, "right")))
        pieces.append(place)
        draft.note("field", kind.names, value, text, printed)
    draft.put(*pieces)


def group_of(name: str) -> str:
    """Under which group a name can be confused with others."""
    return _GROUPS.get(name, name)


_GROUPS = {name: kind.group for kind in ALL for name in kind.names}
