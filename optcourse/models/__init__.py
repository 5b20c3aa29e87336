"""Networks, and many of them at once.

==============  ============================================================================
``networks``    small networks, plain or residual, each with a chosen normalization layer
``norms``       four normalizations as one function, batch normalization with ghosts
``rows``        networks of one shape whose parameters are the rows of one matrix
``units``       hidden units in another order: the same function, and the order that two networks share
``tokens``      a vision transformer and an MLP-Mixer: patches that see each other
``normfree``    networks without a normalizer: standardized weights, masks, a thousand layers
==============  ============================================================================
"""

from optcourse.models.networks import ACTIVATIONS, NORMS, Block, cnn1d, cnn2d, mlp, n_parameters, softmax_regression
from optcourse.models.tokens import mixer, vit
