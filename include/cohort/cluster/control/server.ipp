// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "server.hpp"

#include "../../core/config.hpp"
#include "sessions.hpp"

namespace cohort {

COHORT_INLINE control_server::control_server(cluster& primary, const std::string& path, variables environment,
                                             std::string group)
    : sessions_(std::make_unique<detail::control_sessions>(
          primary, control_protocol::endpoint_of("control socket", path), std::move(environment), std::move(group))) {}

COHORT_INLINE control_server::~control_server() = default;

COHORT_INLINE void control_server::note(const cluster_event& event) { sessions_->note(event); }

COHORT_INLINE asio::awaitable<void> control_server::run() { return sessions_->run(); }

COHORT_INLINE void control_server::look() { sessions_->look(); }

COHORT_INLINE void control_server::stop() { sessions_->stop(); }

}  // namespace cohort
