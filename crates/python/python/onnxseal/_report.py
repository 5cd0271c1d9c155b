"""Reports: dictionaries that show themselves in a few lines."""

_LINES = 8
_COLUMNS = 100


class Report(dict):
    """What the command line prints with `--json`, as a dictionary: `dict(report)` shows it all."""

    def __repr__(self) -> str:
        # An empty list says the least.
        shown = [name for name, value in self.items() if value not in ([], {})]
        lines = [f"  {name}: {_shown(self[name])}" for name in shown[:_LINES]]
        rest = shown[_LINES:] + [name for name in self if name not in shown]
        if rest:
            lines.append(f"  and {', '.join(rest)}")
        return "\n".join(["<onnxseal report", *map(_cut, lines)]) + ">"


def _shown(value):
    """A value in some words: of what has parts, how many, unless they are few and plain."""
    match value:
        case dict() if any(isinstance(part, (dict, list)) for part in value.values()):
            return f"{{{', '.join(f'{name}: {_size(part)}' for name, part in value.items())}}}"
        case str() if len(value) > _COLUMNS - 30:
            return repr(f"...{value[30 - _COLUMNS :]}")
        case list() if len(value) > 4 or any(isinstance(part, (dict, list)) for part in value):
            return _size(value)
    return repr(value)


def _size(value):
    match value:
        case dict() | list():
            return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
    return repr(value)


def _cut(line):
    return line if len(line) <= _COLUMNS else line[: _COLUMNS - 3] + "..."
