// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <utility>

#include <signal.h>
#include <sys/types.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "detail/child_state.hpp"
#include "exit_status.hpp"
#include "pipe.hpp"
#include "stop_policy.hpp"

namespace cohort {

class command;

namespace detail {
class execution;
struct child_access;
}

/// A child process, and the parent's ends of its pipes.
///
/// Owns the process: the destructor of a child that has not ended kills it (SIGKILL) and leaves it to the execution
/// context to reap, which takes until the kernel has taken the process apart; io_context::run() does not return before.
/// It never blocks, and leaves no zombie. An io_context that is destroyed before that waits for it instead, for 1 s at
/// most. detach() lets a child live. A child that may not be killed (a set-user-ID program) is let live.
/// A forked copy of the parent neither signals nor reaps the children of the original.
///
/// On executors of several threads: a child used by one coroutine at a time needs no strand.
///
/// Found by its pidfd, never by its number: nothing here hits a process that got the number of one that has ended.
///
/// Distinct objects: safe. Shared objects: unsafe. Must not outlive its execution context.
class child {
 public:
  /// No child. What needs one throws errc::no_child.
  child() = default;

  child(child&&) noexcept = default;

  child& operator=(child&& other) noexcept;

  ~child() { abandon(); }

  /// Whether there is a child; it may have ended.
  explicit operator bool() const noexcept { return state_ != nullptr; }

  /// The process number, for people to read; 0 if there is no child.
  pid_t pid() const noexcept { return state_ ? state_->pid() : 0; }

  /// Empty if there is no child.
  asio::any_io_executor get_executor() { return state_ ? state_->get_executor() : asio::any_io_executor(); }

  /// The pidfd, which stays this object's; -1 if the child has been reaped.
  int native_handle() { return state_ ? state_->native_handle() : -1; }

  /// The parent's ends of the child's standard streams; closed for those that were not set to stdio::pipe.
  write_pipe& in() noexcept { return in_; }
  read_pipe& out() noexcept { return out_; }
  read_pipe& err() noexcept { return err_; }

  /// Waits until the child has ended and is reaped.
  ///
  /// Does not suspend if it has ended already. Any number of coroutines may wait, and each of them gets the status; so
  /// does one that waits later. The pipes may still hold output. Cancelling throws operation_aborted and leaves the
  /// child as it is. Throws errc::status_taken, each time, if somebody else in this process has reaped the child, or if
  /// SIGCHLD is ignored, which lets the kernel drop the status (the text of the exception says which; a program
  /// that was started with SIGCHLD ignored, or by a shell with `trap '' CHLD`, calls `signal(SIGCHLD, SIG_DFL)` first).
  asio::awaitable<exit_status> wait() { return detail::child_state::wait(state_); }

  /// Waits until the child has ended and no process holds the other ends of out() and err() any more: those that it has
  /// started have them too. Nothing will be written after this; what was written and not read is still there.
  ///
  /// A pipe that is closed here, or was moved or released, is not waited for. The child is reaped only when the pipes
  /// are closed, so that kill_tree() can end a process that holds them. Otherwise as wait(). The child must not be
  /// moved or destroyed meanwhile.
  asio::awaitable<exit_status> closed();

  /// Whether the child has not ended yet. Asks the kernel and does not wait.
  bool running() noexcept { return state_ && !state_->gone(); }

  /// Sends a signal to the child alone, not to its process group.
  ///
  /// False, and nothing is sent, if it has been reaped, or in a copy of this process (fork(2)), which has not started
  /// it; one that has ended, but is not reaped yet, takes any signal and does nothing. Throws what else
  /// pidfd_send_signal(2) reports, EINVAL for a number that is no signal, EPERM for a child that has become another
  /// user's (a set-user-ID program).
  bool signal(int number);

  /// signal(SIGTERM), which asks the child to end.
  bool terminate() { return signal(SIGTERM); }

  /// signal(SIGKILL), which ends it.
  bool kill() { return signal(SIGKILL); }

  /// Sends a signal to the child, its descendants, and whoever else is in the process group and the session that it
  /// leads, those whose own parent has ended included. False, and nothing is sent, if the child has been reaped: its
  /// number is no longer its own.
  ///
  /// All of them are stopped (SIGSTOP) while they are looked for, so that none gets away by forking; then they get the
  /// signal, children before their parents, and continue (SIGCONT), except after SIGSTOP. Each is recognized by its
  /// number and start time at once, so that no other process is hit. Other signals that stop are lost to SIGCONT.
  ///
  /// Not found: a descendant that has left the child's group and session and whose parent has ended, as daemons do.
  /// Left as it is: one that this process may not signal (set-user-ID programs).
  ///
  /// Holds the thread while it reads all of /proc, at least twice, each time some 10 µs for each process of the
  /// machine; 1 s at most, if new processes keep appearing. Throws EINVAL for a number that is no signal, ESRCH if the
  /// child's record in /proc cannot be read, EMFILE with fewer than 2 free descriptors, what pidfd_open(2) reports
  /// where the system refuses it; nobody stays stopped then. Throws EPERM if the child itself may not be signalled; its
  /// descendants that may be have got the signal then.
  bool kill_tree(int number = SIGKILL);

  /// Ends the child: each step of the policy in turn until it has ended, then SIGKILL; returns when it is reaped.
  ///
  /// Does not suspend, and sends nothing, if it has been reaped. Throws as wait() and signal() do: EPERM at once when
  /// the child refuses a signal (a set-user-ID program), which is then still a child of this process and can be waited
  /// for. Cancelling throws operation_aborted and leaves the child as it is; signals that were sent stay sent.
  asio::awaitable<exit_status> stop(stop_policy policy = {}) { return stop(state_, policy); }

  /// Lets the child live and forgets it; the pipes stay. The execution context reaps it when it ends, if it runs then,
  /// but io_context::run() does not wait for that. It still dies with the parent unless command::die_with_parent is
  /// off.
  ///
  /// To be called on the child's executor.
  void detach() noexcept {
    if (state_) detail::child_state::let_live(std::move(state_));
  }

 private:
  friend asio::awaitable<child> spawn(command);
  friend class detail::execution;
  friend struct detail::child_access;

  child(std::shared_ptr<detail::child_state> state, write_pipe in, read_pipe out, read_pipe err)
      : state_(std::move(state)), in_(std::move(in)), out_(std::move(out)), err_(std::move(err)) {}

  static asio::awaitable<void> hung_up(read_pipe& pipe);

  static asio::awaitable<exit_status> stop(std::shared_ptr<detail::child_state> state, stop_policy policy);

  void abandon() noexcept;

  std::shared_ptr<detail::child_state> state_;
  write_pipe in_;
  read_pipe out_, err_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "child.ipp"
#endif
