"""Tests of what is checked of a bundle before it is used."""
