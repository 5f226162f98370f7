// SPDX-License-Identifier: BSL-1.0
/// Makes system calls of the library fail, through the seam in core/system.hpp.
///
///     const fault<&system::calls::pipe2> no_pipe(EMFILE);                  // the first call fails, once
///     const fault<&system::calls::sendmsg> busy(EAGAIN, 3, 2);             // the 3rd and the 4th call fail
///     const fault<&system::calls::recvmsg> broken(ENOBUFS, 1, every_time); // each call fails
///     CHECK(busy.failed() == 2);
///
///     // any other behaviour: a function that gets the real call and its arguments
///     const intercept<&system::calls::recvmsg> truncated([](auto real, int fd, msghdr* message, int flags) {
///       const auto size = real(fd, message, flags);
///       message->msg_flags |= MSG_CTRUNC;
///       return size;
///     });
///
/// The real call comes back when the object goes out of scope. One object per call at a time. Both count in the child
/// between clone and exec as well, which shares the parent's memory.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "../../include/cohort/core/system.hpp"

namespace cohort::test {

template <auto Entry>
class intercept;

template <class Result, class... Arguments, Result (*system::calls::*Entry)(Arguments...)>
class intercept<Entry> {
 public:
  using real_call = Result (*)(Arguments...);

  explicit intercept(std::function<Result(real_call, Arguments...)> replacement)
      : replacement_(std::move(replacement)), real_(system::call.*Entry) {
    if (current_ != nullptr) std::abort();
    current_ = this;
    system::call.*Entry = [](Arguments... arguments) {
      ++current_->calls_;
      return current_->replacement_(current_->real_, arguments...);
    };
  }
  intercept(const intercept&) = delete;

  ~intercept() {
    system::call.*Entry = real_;
    current_ = nullptr;
  }

  /// How often the library has made the call.
  unsigned calls() const noexcept { return calls_; }

 private:
  // A plain function pointer carries no state, so the state is found by the entry that it replaces.
  static inline intercept* current_ = nullptr;

  std::function<Result(real_call, Arguments...)> replacement_;
  real_call real_;
  unsigned calls_ = 0;
};

/// To be called by a replacement of execve before the real one: AddressSanitizer would hold its frames, which nobody
/// leaves, for a part of the parent's stack.
inline void leave_no_frames() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_handle_no_return();
#endif
}

inline constexpr unsigned every_time = ~0u;

template <auto Entry>
class fault;

template <class Result, class... Arguments, Result (*system::calls::*Entry)(Arguments...)>
class fault<Entry> {
 public:
  /// Fails `times` calls with -1 and `error`, from the `first`-th on, which counts from 1.
  explicit fault(int error, unsigned first = 1, unsigned times = 1)
      : intercept_([this, error, first, times](auto real, Arguments... arguments) -> Result {
          const auto call = intercept_.calls();
          if (call < first || call - first >= times) return real(arguments...);
          ++failed_;
          errno = error;
          return -1;
        }) {}

  unsigned calls() const noexcept { return intercept_.calls(); }

  /// How many calls have been made to fail.
  unsigned failed() const noexcept { return failed_; }

 private:
  unsigned failed_ = 0;
  intercept<Entry> intercept_;
};

}  // namespace cohort::test
