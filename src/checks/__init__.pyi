from .findings import Examples as Examples
from .findings import Finding as Finding
from .findings import Report as Report
from .survey import check as check
