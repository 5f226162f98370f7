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

[[maybe_unused]] bool is_refused() noexcept {
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


#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COHORT_TEST_OWN_ALLOCATOR 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COHORT_TEST_OWN_ALLOCATOR 1
#endif
#endif

// glibc's allocator under the names that it has for who replaces it ("Replacing malloc", libc manual). Not with a
// sanitizer, whose allocator this is then, and which asks for memory before any code of this program may run.
#if !defined(COHORT_TEST_OWN_ALLOCATOR)
using cohort::test::scarcity::is_refused;

extern "C" {

void* __libc_malloc(std::size_t size) noexcept;
void* __libc_realloc(void* old, std::size_t size) noexcept;
void* __libc_memalign(std::size_t alignment, std::size_t size) noexcept;

void* malloc(std::size_t size) noexcept { return is_refused() ? nullptr : __libc_malloc(size); }

void* realloc(void* old, std::size_t size) noexcept { return is_refused() ? nullptr : __libc_realloc(old, size); }

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return is_refused() ? nullptr : __libc_memalign(alignment, size);
}
}
#else
// By hand, with Asio's cache off (ASIO_DISABLE_SMALL_BLOCK_RECYCLING, ASIO_DISABLE_STD_ALIGNED_ALLOC), the sanitizer
// sees what a coroutine that is left over still uses.
void* operator new(std::size_t size) {
  if (cohort::test::scarcity::is_refused()) throw std::bad_alloc();
  if (void* const got = std::malloc(size)) return got;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif
