"""Charts: drawn by matplotlib at the width of a phone, their colours and fonts left to the page.

drawing.py   a figure that becomes an inline SVG: marks with their number, no ids that clash, same bytes each time
bars.py      one row a bar, its label above it
lines.py     one line over blocks or runs
callout.py   where the name of a point stands on no line
memory.py    memory over a run against a budget
"""
