"""Losses on images of organs."""
