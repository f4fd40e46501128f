"""What is bought and what it comes to: goods, discount, tax, rounding and payment, all in whole cents and consistent."""

import random
from dataclasses import dataclass

from ray_pipeline.synthesis.document_names import goods


@dataclass(frozen=True)
class Sale:
    """Some pieces of one article."""

    article: str
    count: int
    each_cents: int

    @property
    def cents(self) -> int:
        """What they cost together."""
        return self.count * self.each_cents


@dataclass(frozen=True)
class Bill:
    """One purchase. The total is what is to be paid: after discount, service, tax and rounding, before any payment.

    With `inclusive` the tax is already in the prices (`tax_cents` says how much), otherwise it comes on top.
    """

    sales: tuple[Sale, ...]
    discount_cents: int
    service_cents: int
    tax_percent: int
    tax_cents: int
    inclusive: bool
    rounding_cents: int
    tendered_cents: int  # 0 where no cash changed hands

    @property
    def goods_cents(self) -> int:
        """The sum of the articles."""
        return sum(sale.cents for sale in self.sales)

    @property
    def before_rounding_cents(self) -> int:
        """What it would come to without rounding."""
        return self.goods_cents - self.discount_cents + self.service_cents + (0 if self.inclusive else self.tax_cents)

    @property
    def total_cents(self) -> int:
        """What is to be paid."""
        return self.before_rounding_cents + self.rounding_cents

    @property
    def change_cents(self) -> int:
        """What comes back from the cash."""
        return self.tendered_cents - self.total_cents if self.tendered_cents else 0


@dataclass(frozen=True)
class Coin:
    """How a document writes money: the sign before or behind, and the marks within the number."""

    before: str = ""
    behind: str = ""
    comma: bool = False
    thousands: bool = True

    def number(self, cents: int) -> str:
        """The figures alone, such as 1,234.50, with a minus before what is below zero."""
        text = f"{abs(cents) // 100:,}" if self.thousands else f"{abs(cents) // 100}"
        text = f"{'-' if cents < 0 else ''}{text}.{abs(cents) % 100:02d}"
        return text.translate(_SWAPPED) if self.comma else text

    def printed(self, cents: int) -> str:
        """With the sign of the currency."""
        return f"{self.before}{self.number(cents)}{self.behind}"


_SWAPPED = str.maketrans(".,", ",.")


def sample_coin(rng: random.Random) -> Coin:
    """Mostly figures alone with a point, as tills print them."""
    if rng.random() < 0.1:
        return Coin(behind=rng.choice(("", " EUR", " €", "€", " kr")), comma=True)
    before = rng.choice(("", "", "", "", "", "", "RM", "RM ", "RM", "$", "$ ", "S$", "£", "€", "USD ", "MYR "))
    return Coin(before, thousands=rng.random() < 0.75)


def _priced(rng: random.Random) -> int:
    top = rng.choice((500, 1000, 1500, 1500, 3000, 3000, 6000, 10000, 30000, rng.choice((40000, 200000))))
    cents = rng.randint(20, top)
    return cents if rng.random() < 0.35 else max(10, round(cents / 10) * 10 - rng.choice((0, 0, 0, 1, 5)))


def _count(rng: random.Random, each_cents: int) -> int:
    """Mostly one; many only of what is cheap."""
    return rng.choice((1, 1, 1, 1, 1, 2, 2, 3, rng.randint(1, 24 if each_cents < 1500 else 4)))


def sample_bill(rng: random.Random, most_sales: int = 12) -> Bill:
    """A purchase of one to `most_sales` different articles."""
    count = min(most_sales, rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8, rng.randint(1, 16))))
    articles = list(dict.fromkeys(goods(rng) for _ in range(count)))
    sales = tuple(Sale(article, _count(rng, each), each) for article in articles for each in (_priced(rng),))
    sum_cents = sum(sale.cents for sale in sales)
    discount = sum_cents * rng.choice((5, 10, 15, 20)) // 100 if rng.random() < 0.12 else 0
    left = sum_cents - discount
    service = round(left * 0.1) if rng.random() < 0.1 else 0
    percent = rng.choice((0, 0, 6, 6, 6, 6, 6, 7, 8, 10, 5, 19, 20))
    inclusive = rng.random() < 0.55
    base = left + service
    tax = round(base * percent / (100 + percent)) if inclusive else round(base * percent / 100)
    due = base + (0 if inclusive else tax)
    rounding = 5 * round(due / 5) - due if rng.random() < 0.6 else 0
    total = due + rounding
    return Bill(sales, discount, service, percent, tax, inclusive, rounding, _tendered(rng, total) if rng.random() < 0.6 else 0)


def _tendered(rng: random.Random, total: int) -> int:
    step = rng.choice((1, 100, 500, 1000, 1000, 5000, 5000, 10000))
    return -(-total // step) * step
