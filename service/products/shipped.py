"""The demonstration's products and offers, which ship with the platform: invented, and marked so."""

from pathlib import Path

from service.products.model import Offer, Product
from service.products.parsing import parse_listing
from service.quantification.document import read_file

DIRECTORY = Path(__file__).parent / "demonstration"


def load_demonstration() -> list[Product | Offer]:
    """The documents in the order in which they can be listed: products, then the offers on them."""
    documents = [parse_listing(read_file(path)) for path in sorted(DIRECTORY.glob("*.yaml"))]
    return sorted(documents, key=lambda document: isinstance(document, Offer))
