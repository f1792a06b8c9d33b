"""Plain networks, one kind a file. `__init__.pyi` lists what there is; each loads when first named."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
