// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "spawn.hpp"

#include "../core/config.hpp"

#include <memory>
#include <utility>

#include "detail/launcher.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<child> spawn(command what) {
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
