# The target facenet_ext_cuda. Sets FACENET_CUDA_VERSION and FACENET_CUDA_ARCHITECTURES, which the
# package tells of itself. Included where nvcc was found.

# The GPUs: FACENET_EXT_CUDA_ARCHITECTURES, else CMAKE_CUDA_ARCHITECTURES or CUDAARCHS, else machine
# code for each of these that this nvcc knows, and PTX of the newest for those to come.
if(FACENET_EXT_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES ${FACENET_EXT_CUDA_ARCHITECTURES})
elseif(NOT CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-code OUTPUT_VARIABLE known)
  set(CMAKE_CUDA_ARCHITECTURES "")
  foreach(architecture 75 80 86 89 90a 100 120)
    # The list leaves out the variants with a letter.
    string(REGEX MATCH "^[0-9]+" newest_candidate ${architecture})
    if(known MATCHES "sm_${newest_candidate}[ \n]")
      list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture}-real)
      set(newest ${newest_candidate})
    endif()
  endforeach()
  list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
endif()

enable_language(CUDA)
set(FACENET_CUDA_VERSION ${CMAKE_CUDA_COMPILER_VERSION})
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  message(FATAL_ERROR "facenet_ext needs nvcc 12.0 or later, not ${CMAKE_CUDA_COMPILER_VERSION}; "
                      "FACENET_EXT_CUDA=OFF builds for the CPU alone")
endif()

# "75-real;120-real;120-virtual" is told as "75 120+PTX".
set(architectures ${CMAKE_CUDA_ARCHITECTURES})
if(architectures MATCHES "^(native|all|all-major)$")
  string(TOUPPER ${architectures} which)
  string(REPLACE "-" "_" which ${which})
  if(CMAKE_CUDA_ARCHITECTURES_${which})
    set(architectures ${CMAKE_CUDA_ARCHITECTURES_${which}})
  endif()
endif()
set(told "")
foreach(architecture ${architectures})
  if(NOT architecture MATCHES "^[0-9]+[a-z]?(-real|-virtual)?$")
    message(FATAL_ERROR "CUDA architectures \"${CMAKE_CUDA_ARCHITECTURES}\" come to \"${architecture}\"."
                        " Name those to build for, as in FACENET_EXT_CUDA_ARCHITECTURES=\"80-real;90\"")
  endif()
  string(REGEX REPLACE "-(real|virtual)$" "" name ${architecture})
  if(architecture MATCHES "-real$")
    list(APPEND told ${name})
  elseif(architecture MATCHES "-virtual$" AND NOT name IN_LIST told)
    list(APPEND told ${name}-virtual)
  else()
    list(REMOVE_ITEM told ${name})
    list(APPEND told ${name}+PTX)
  endif()
endforeach()
list(JOIN told " " FACENET_CUDA_ARCHITECTURES)
message(STATUS "CUDA library: toolkit ${FACENET_CUDA_VERSION}, for ${FACENET_CUDA_ARCHITECTURES}")

# Kernels (.cu, the longest to compile first), then operators and what else asks torch (.cpp).
add_library(
  facenet_ext_cuda MODULE
  csrc/cuda/distance_histogram.cu
  csrc/cuda/search_random.cu
  csrc/cuda/softmax_loss.cu
  csrc/cuda/search_successor_many.cu
  csrc/cuda/search_successor_few.cu
  csrc/cuda/distances.cu
  csrc/cuda/triplet_margin_loss.cu
  csrc/cuda/cub.cu
  csrc/cuda/search_hardest.cu
  csrc/cuda/edges.cu
  csrc/cuda/labels.cu
  csrc/cuda/loss_sums.cu
  csrc/cuda/mined_triplet_loss.cu
  csrc/cuda/nearest.cu
  csrc/cuda/pairs_within.cu
  csrc/cuda/prepare.cu
  csrc/cuda/search.cu
  csrc/cuda/search_small.cu
  csrc/cuda/select_triplets.cu
  csrc/cuda/selection.cu
  csrc/cuda/triplet_losses.cu
  csrc/cuda/device.cpp
  csrc/cuda/distance_histogram.cpp
  csrc/cuda/labelled_batch.cpp
  csrc/cuda/launch.cpp
  csrc/cuda/mined_triplet_loss.cpp
  csrc/cuda/nearest.cpp
  csrc/cuda/pairs_within.cpp
  csrc/cuda/pairwise_squared_distance.cpp
  csrc/cuda/select_triplets.cpp
  csrc/cuda/softmax_loss.cpp
  csrc/cuda/triplet_losses.cpp
  csrc/cuda/triplet_margin_loss.cpp
  csrc/cuda/workspace.cpp)
target_link_libraries(facenet_ext_cuda PRIVATE facenet_torch)
target_include_directories(facenet_ext_cuda SYSTEM
                           PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
# The dispatch key that the operators are registered for.
target_compile_definitions(facenet_ext_cuda PRIVATE FACENET_CUDA_KEY=CUDA)
# torch declares its CUDA functions under this name. Those of libtorch_cuda stay undefined here, as
# a CPU torch, which has no such library, must be enough to build against; a CUDA torch, the only
# one that this library is loaded under, has them.
target_compile_definitions(facenet_ext_cuda PRIVATE USE_CUDA)
# Two architectures of a file at a time: the largest files are otherwise what the others' end waits
# for.
target_compile_options(facenet_ext_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--threads=2>)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0)
  # A tenth of the size. Drivers for CUDA 12.0 could not read it, and need not for this toolkit.
  target_compile_options(facenet_ext_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-compress-mode=size>)
endif()
# The runtime is the library's own, whichever torch has, and none of its names are seen outside.
target_link_options(facenet_ext_cuda PRIVATE -Wl,--exclude-libs,ALL)
set_target_properties(
  facenet_ext_cuda
  PROPERTIES CUDA_STANDARD 17
             CUDA_STANDARD_REQUIRED ON
             CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}"
             CUDA_RUNTIME_LIBRARY Static
             CUDA_VISIBILITY_PRESET hidden)
install(TARGETS facenet_ext_cuda LIBRARY DESTINATION facenet_ext)
