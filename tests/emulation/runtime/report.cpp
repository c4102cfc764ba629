#include "report.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace facenet::emulation {
namespace {

struct Frame {
  std::string function, file, line;
};

// The function and line of an address, and those that it is inlined in, innermost first.
std::vector<Frame> frames_of(uintptr_t address) {
  Dl_info library = {};
  if (dladdr(reinterpret_cast<void*>(address), &library) == 0) return {};
  const uintptr_t offset = address - reinterpret_cast<uintptr_t>(library.dli_fbase);
  char command[4096];
  // A sanitizer that this process was started with is none of addr2line's business.
  std::snprintf(command, sizeof command,
                "env -u LD_PRELOAD addr2line -Cfi -e '%s' 0x%zx 2>/dev/null", library.dli_fname,
                size_t(offset));
  std::vector<Frame> frames;
  FILE* pipe = popen(command, "r");
  if (pipe == nullptr) return frames;
  char text[4096];
  while (std::fgets(text, sizeof text, pipe) != nullptr) {
    Frame frame;
    frame.function = std::string(text).substr(0, std::string(text).find('\n'));
    if (std::fgets(text, sizeof text, pipe) == nullptr) break;
    std::string place(text);
    place = place.substr(0, place.find_first_of("\n "));
    const size_t colon = place.rfind(':');
    frame.file = place.substr(0, colon);
    frame.line = colon == std::string::npos ? "" : place.substr(colon + 1);
    if (frame.file != "??") frames.push_back(frame);
  }
  pclose(pipe);
  return frames;
}

std::string in_hexadecimal(uintptr_t address) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%zx", size_t(address));
  return text;
}

}  // namespace

std::string source_line(const void* return_address) {
  // The call ends where it returns to; what lies there may belong to the next line.
  const uintptr_t address = reinterpret_cast<uintptr_t>(return_address) - 1;
  const std::vector<Frame> frames = frames_of(address);
  if (frames.empty()) return in_hexadecimal(address);
  // The kernel's line, not that of a wrapper in the emulation's headers.
  size_t frame = 0;
  while (frame + 1 < frames.size() &&
         frames[frame].file.find("/emulation/include/") != std::string::npos)
    ++frame;
  const std::string& file = frames[frame].file;
  return file.substr(file.rfind('/') + 1) + ":" + frames[frame].line;
}

std::string function_name(const void* function) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(function);
  const std::vector<Frame> frames = frames_of(address);
  return frames.empty() ? in_hexadecimal(address) : frames.back().function;
}

}  // namespace facenet::emulation
