// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "run_node_worker.hpp"

#include <cstdlib>
#include <exception>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "../../core/config.hpp"
#include "../../core/error_log.hpp"
#include "../../ipc/node/peer.hpp"
#include "../../worker/environment.hpp"
#include "../../worker/exit_codes.hpp"
#include "primary_link.hpp"

namespace cohort {

COHORT_INLINE bool has_node_primary() noexcept {
  const char* const id = std::getenv("NODE_UNIQUE_ID");
  return id != nullptr && *id != '\0' && has_node_parent();
}

COHORT_INLINE int run_node_worker(connection_handler handler, node_worker_options options) {
  return detail::run_worker(std::move(handler), options.worker, [&options](const asio::any_io_executor& executor) {
    auto end = detail::take_node_parent();
    ::setenv(detail::slot_variable, end.unique_id.c_str(), 1);  // worker::slot()
    node_options wire;
    wire.serialization = end.mode;
    wire.cluster = true;
    return std::make_unique<node_cluster::primary_link>(executor, node_link(executor, std::move(end.socket), wire),
                                                        options);
  });
}

}  // namespace cohort
