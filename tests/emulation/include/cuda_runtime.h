// The twin of CUDA's header: kernels compile against it as plain C++ and run on the host.
#pragma once

#include "emulation/qualifiers.h"
#include "emulation/vector_types.h"
// The order matters: the rest uses those.
#include "emulation/arithmetic.h"
#include "emulation/atomics.h"
#include "emulation/host_api.h"
#include "emulation/threads.h"
