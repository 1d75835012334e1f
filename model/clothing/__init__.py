"""The clothing model: drawn pictures of garments and a small network that names them."""
