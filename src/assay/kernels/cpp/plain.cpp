// One of the builds of the library: the flags differ (setup.py), the sources do not.
#include "library.h"
