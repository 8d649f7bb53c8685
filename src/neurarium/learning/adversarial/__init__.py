"""Games: networks that learn from others which learn against them."""
