// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <utility>

#include "../core/asio.hpp"
#include "child.hpp"
#include "command.hpp"
#include "detail/launcher.hpp"

namespace cohort {

/// Starts a child. It runs its program when this returns.
///
/// Does not suspend, and so cannot be cancelled. It holds the calling thread until the child has its program: some 40
/// to 70 µs, however large the parent is, and longer where the program or the directory is on a slow file system, or a
/// user is to be looked up in a slow database.
///
/// The child belongs to the executor of the calling coroutine. It has descriptors 0, 1, 2 and those that the command
/// sets, no signal blocked and each at its default action but for those that the command sets; it inherits the rest of
/// what the command leaves as it is (limits, umask, priority).
///
/// Throws std::system_error that names the step and the value, `spawn: chdir "/nope": No such file or directory`; then
/// there is no child. Reads the environment of this process: no other thread may change it meanwhile (setenv(3)).
inline asio::awaitable<child> spawn(command what) {
  const auto executor = co_await asio::this_coro::executor;
  const auto state = std::make_shared<detail::child_state>(executor);
  detail::launch launch(what);

  const auto pipe_to = [&]<class Pipe>(int number, Pipe& pipe) {
    if (auto end = launch.take_end(number)) pipe = Pipe(executor, std::move(end));
  };
  write_pipe in;
  read_pipe out, err;
  pipe_to(0, in);
  pipe_to(1, out);
  pipe_to(2, err);

  auto started = launch.run();
  state->adopt(started.pid, std::move(started.pidfd));
  co_return child(state, std::move(in), std::move(out), std::move(err));
}

}  // namespace cohort
