"""Graphs, knowledge graphs and what crowds say."""
