"""What can be wrong with data: one kind of check a file. `__init__.pyi` lists what there is; each loads when named."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
