"""The bar of `progress=True`."""


def bar():
    """A function of the bytes done and those in all that shows a bar by tqdm; `None` where there is no tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return _Bar(tqdm)


class _Bar:
    def __init__(self, tqdm):
        self._tqdm, self._shown = tqdm, None

    def __call__(self, done, total):
        if self._shown is None:
            self._shown = self._tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024)
        self._shown.total = total
        self._shown.update(done - self._shown.n)

    def _close(self):
        if self._shown is not None:
            self._shown.close()
