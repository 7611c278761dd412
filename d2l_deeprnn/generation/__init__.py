"""Trained models write."""
