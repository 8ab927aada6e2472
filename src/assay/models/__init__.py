"""Language models and encoders of Hugging Face, read and changed at named sites.

`load` opens a model and `read` harvests its sites; `edited`, `splice` and `ablated` change them inside a `with` block;
`token_losses` and `generate` show what that does. `sites.py` holds the one table of where each family keeps each site.
"""

from assay.models.edits import Edit, ablated, edited, splice
from assay.models.generation import generate
from assay.models.loading import load
from assay.models.losses import token_losses
from assay.models.model import Model
from assay.models.reading import read
from assay.models.where import ROLES, Where

__all__ = ["ROLES", "Edit", "Model", "Where", "ablated", "edited", "generate", "load", "read", "splice", "token_losses"]
