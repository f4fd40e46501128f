"""What shops, tills and forms print: words of names, wordings of sums, thanks; they stand in `document_phrases.txt`."""

from pathlib import Path

from ray_pipeline.synthesis.document_words import sections_of

_SECTIONS = sections_of(Path(__file__).with_suffix(".txt"))
SYLLABLES = _SECTIONS["syllables"]
GIVEN = _SECTIONS["given"]
FAMILY = _SECTIONS["family"]
SHOP_WORDS = _SECTIONS["shop_words"]
BUSINESSES = _SECTIONS["businesses"]
BUSINESS_STARTS = _SECTIONS["business_starts"]
LEGAL_FORMS = _SECTIONS["legal_forms"]
LEGAL_FORMS_ELSEWHERE = _SECTIONS["legal_forms_elsewhere"]
TOWNS = _SECTIONS["towns"]
STATES = _SECTIONS["states"]
DISHES = _SECTIONS["dishes"]
TOTALS = _SECTIONS["totals"]
TAXED = _SECTIONS["taxed"]
ROUNDED = _SECTIONS["rounded"]
SUBTOTALS = _SECTIONS["subtotals"]
UNTAXED = _SECTIONS["untaxed"]
TAXES = _SECTIONS["taxes"]
INCLUDED_TAXES = _SECTIONS["included_taxes"]
ROUNDINGS = _SECTIONS["roundings"]
CASH_PAYMENTS = _SECTIONS["cash_payments"]
CHANGE = _SECTIONS["change"]
CARD_PAYMENTS = _SECTIONS["card_payments"]
DISCOUNTS = _SECTIONS["discounts"]
SERVICES = _SECTIONS["services"]
COUNTS = _SECTIONS["counts"]
COPIES = _SECTIONS["copies"]
RECEIPT_KINDS = _SECTIONS["receipt_kinds"]
FEET = _SECTIONS["feet"]
FORM_TITLES = _SECTIONS["form_titles"]
TABLE_TITLES = _SECTIONS["table_titles"]
TABLE_HEADS = _SECTIONS["table_heads"]
WORDINGS = {name.removeprefix("asked "): entries for name, entries in _SECTIONS.items() if name.startswith("asked ")}
"""How users word their questions, for each role; {name} and {label} stand for what is asked for."""
