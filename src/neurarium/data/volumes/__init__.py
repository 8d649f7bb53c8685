"""Volumes of brains, subjects made of one, and the tasks that their images pose."""
