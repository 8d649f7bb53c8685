"""Searches by recurrent policies that are rewarded."""
