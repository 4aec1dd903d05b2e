"""Shelf photos drawn from products, stores and cameras."""
