// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <memory>
#include <utility>

#include "../core/asio.hpp"
#include "child.hpp"
#include "command.hpp"
#include "detail/launch.hpp"

namespace cohort {

/// Starts a child. It executes its program when this returns.
///
/// Does not suspend, and so cannot be cancelled. It holds the calling thread until the child has executed its program:
/// some 30 to 50 µs, however large the parent is, but longer where the program or the directory is on a slow file system.
///
/// The child is bound to the executor of the calling coroutine. It has descriptors 0, 1, 2 and those that the command
/// sets, all signals unblocked and at their default action, and gets its own copy of everything else (limits, umask, …).
///
/// Throws std::system_error that names the step and the value, `spawn: chdir "/nope": No such file or directory`; then
/// there is no child.
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
