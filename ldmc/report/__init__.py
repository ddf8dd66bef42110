"""The report: one HTML file that shows what was built and what was measured, for people who look before they read.

bundles, results of bench, results of verify   ->   report.html   (no network, no other file, no font)

inputs.py      what is given, told apart and checked
bundle.py, levels.py, fidelity.py, pictures.py   each turns one kind of it into what the page shows
charts/        drawn by matplotlib, their colours left to the page
page.py        the template, and the file
"""

from ldmc.report.page import write_report

__all__ = ["write_report"]
