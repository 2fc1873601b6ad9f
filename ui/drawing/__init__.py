"""Plots and panels as SVG and HTML of our own."""
