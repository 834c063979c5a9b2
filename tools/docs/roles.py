"""What our docstrings say in Sphinx's roles, as Markdown."""

import re
from typing import Any

import griffe

ROLE = re.compile(r':(?:func|class|meth|mod|data|attr|doc):`~?([^`]+)`')


class PlainRoles(griffe.Extension):
    """Turns ``:func:`name` `` into code."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change an object's docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r'`\1`', obj.docstring.value)
