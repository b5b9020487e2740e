"""The demo corpus: two people, four accounts, ten days, written by hand.

`script/*.txt` is the source, one readable file per account; `exports.py` compiles it to the files
that Slack, Telegram and X would have given the two, and says what a person would have grouped.
"""

from communicator_pipeline.demo.exports import AS_OF, DemoExport, gold, write_exports

__all__ = ["AS_OF", "DemoExport", "gold", "write_exports"]
