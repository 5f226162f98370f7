// SPDX-License-Identifier: BSL-1.0
/// A worker's end of the channel to its parent.
#pragma once

#include <utility>

#include "../ipc/channel.hpp"
#include "protocol.hpp"

namespace cohort {

/// The channel that a `worker` is made with: what parent<worker_protocol>() returns, or one end of make_channel_pair().
/// A class of its own, so that worker.hpp can name it without including channels.
///
/// Distinct objects: safe. Shared objects: unsafe.
class parent_channel : public channel<worker_protocol::to_parent, worker_protocol::to_child> {
  using base = channel<worker_protocol::to_parent, worker_protocol::to_child>;

 public:
  using base::base;

  parent_channel(base taken) : base(std::move(taken)) {}  // NOLINT(google-explicit-constructor)
};

}  // namespace cohort
