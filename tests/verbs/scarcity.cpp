// SPDX-License-Identifier: BSL-1.0
#include "scarcity.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include <dlfcn.h>
#include <elf.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cohort::test::scarcity {
namespace {

std::uint64_t left = 0;
bool refused = false;
bool spared = false;
const char* mark_of = nullptr;

/// What a function is for the question whether memory can be refused in it.
enum class kind {
  survives,      ///< the body of a coroutine, where an exception is one
  begins,        ///< Asio's body around each coroutine that is spawned: the one outside of it decides
  out_of_reach,  ///< one of Asio's that must not throw, or does not survive it
};

/// Where such a function stands in this program.
struct body {
  std::uintptr_t begin;
  std::size_t size;
  cohort::test::scarcity::kind kind;
};

/// What a function is by its name, if that matters.
bool know(const char* name, kind& what) {
  const auto has = [name](const char* part) { return std::strstr(name, part) != nullptr; };
  if (has(".actor")) {
    what = has("use_awaitable_t") && has("8initiate") ? kind::out_of_reach
           : has("co_spawn_entry_point")              ? kind::begins
                                                      : kind::survives;
    return true;
  }
  what = kind::out_of_reach;
  // Asio 1.22 asks for memory in a constructor and in a destructor that must not throw, and follows a null pointer when
  // it has memory for one half of a strand.
  return has("17handler_work_base") ||
         (has("strand_executor_service") && (has("create_implementation") || has("invoker")));
}

/// What the program's own symbols say; sorted. The bodies of coroutines are known to nobody else.
std::vector<body> read_bodies() {
  std::vector<body> found;
  const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (file < 0 || ::fstat(file, &status) != 0) return found;
  const auto size = static_cast<std::size_t>(status.st_size);
  const auto* const image = static_cast<const char*>(::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0));
  ::close(file);
  Dl_info self{};
  ::dladdr(reinterpret_cast<const void*>(&refuse), &self);
  const auto* const header = reinterpret_cast<const ElfW(Ehdr)*>(image);
  const auto base = header->e_type == ET_DYN ? reinterpret_cast<std::uintptr_t>(self.dli_fbase) : 0;
  const auto* const sections = reinterpret_cast<const ElfW(Shdr)*>(image + header->e_shoff);
  for (int i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const char* const names = image + sections[sections[i].sh_link].sh_offset;
    const auto* symbol = reinterpret_cast<const ElfW(Sym)*>(image + sections[i].sh_offset);
    for (std::size_t n = sections[i].sh_size / sizeof *symbol; n-- > 0; ++symbol) {
      const char* const name = names + symbol->st_name;
      kind what{};
      if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && know(name, what)) {
        found.push_back({base + symbol->st_value, symbol->st_size, what});
      }
    }
  }
  ::munmap(const_cast<char*>(image), size);
  std::sort(found.begin(), found.end(), [](const body& a, const body& b) { return a.begin < b.begin; });
  return found;
}

const std::vector<body>& bodies() {
  static const std::vector<body> all = read_bodies();
  return all;
}

/// Whether this is a place where nobody survives that memory is refused.
bool is_beyond_reach() {
  void* frames[128];
  const int depth = ::backtrace(frames, 128);
  for (int i = 0; i < depth; ++i) {
    const auto at = reinterpret_cast<std::uintptr_t>(frames[i]) - 1;
    auto after = std::upper_bound(bodies().begin(), bodies().end(), at,
                                  [](std::uintptr_t value, const body& each) { return value < each.begin; });
    if (after == bodies().begin()) continue;
    const body& candidate = *--after;
    if (at - candidate.begin < candidate.size && candidate.kind != kind::begins) {
      return candidate.kind == kind::out_of_reach;
    }
  }
  return false;
}

bool is_refused() noexcept {
  if (left == 0 || --left != 0) return false;
  if (mark_of != nullptr) ::close(::creat(mark_of, 0600));
  spared = is_beyond_reach();
  refused = !spared;
  if (std::getenv("COHORT_TEST_SCARCITY_TRACE") != nullptr) {
    void* frames[64];
    ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
  }
  return refused;
}

}  // namespace

void refuse(std::uint64_t n, const char* mark) noexcept {
  if (n != 0) (void)is_beyond_reach();  // which asks for memory the first time
  left = n;
  refused = spared = false;
  mark_of = mark;
}

bool has_refused() noexcept { return refused; }

bool is_out_of_reach() noexcept { return spared; }

}  // namespace cohort::test::scarcity

using cohort::test::scarcity::is_refused;

// The allocator's own functions, under the names that it has for who replaces it: glibc's ("Replacing malloc", libc
// manual), or AddressSanitizer's.
#if defined(__SANITIZE_ADDRESS__)
#define COHORT_TEST_REAL(name) __interceptor_##name
#define COHORT_TEST_REAL_ALIGNED __interceptor_aligned_alloc
#else
#define COHORT_TEST_REAL(name) __libc_##name
#define COHORT_TEST_REAL_ALIGNED __libc_memalign
#endif

extern "C" {

void* COHORT_TEST_REAL(malloc)(std::size_t size) noexcept;
void* COHORT_TEST_REAL(realloc)(void* old, std::size_t size) noexcept;
void* COHORT_TEST_REAL_ALIGNED(std::size_t alignment, std::size_t size) noexcept;

void* malloc(std::size_t size) noexcept { return is_refused() ? nullptr : COHORT_TEST_REAL(malloc)(size); }

void* realloc(void* old, std::size_t size) noexcept {
  return is_refused() ? nullptr : COHORT_TEST_REAL(realloc)(old, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return is_refused() ? nullptr : COHORT_TEST_REAL_ALIGNED(alignment, size);
}
}

#if defined(__SANITIZE_ADDRESS__)  // whose operator new does not come here by malloc

void* operator new(std::size_t size) {
  void* const got = malloc(size != 0 ? size : 1);
  if (got == nullptr) throw std::bad_alloc();
  return got;
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return malloc(size != 0 ? size : 1); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return malloc(size != 0 ? size : 1); }
void operator delete(void* what) noexcept { std::free(what); }
void operator delete[](void* what) noexcept { std::free(what); }
void operator delete(void* what, std::size_t) noexcept { std::free(what); }
void operator delete[](void* what, std::size_t) noexcept { std::free(what); }
void operator delete(void* what, const std::nothrow_t&) noexcept { std::free(what); }
void operator delete[](void* what, const std::nothrow_t&) noexcept { std::free(what); }

#endif
