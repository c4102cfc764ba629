// Names for reports, from the debug information of the library that an address is in.
#pragma once

#include <string>

namespace facenet::emulation {

// "file.cu:12" of the call before `return_address`; the address where there is no such information.
std::string source_line(const void* return_address);
std::string function_name(const void* function);

}  // namespace facenet::emulation
