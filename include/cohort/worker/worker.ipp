// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker.hpp"

#include "../core/config.hpp"

#include <utility>

#include "../messaging/endpoint.hpp"
#include "connection_handler.hpp"
#include "detail/worker_impl.hpp"
#include "exit_codes.hpp"
#include "options.hpp"
#include "parent_channel.hpp"

namespace cohort {

COHORT_INLINE worker::worker(asio::any_io_executor executor, parent_channel channel, connection_handler handler,
                             const worker_options& options)
    : impl_(std::make_unique<detail::worker_impl>(*this, executor, std::move(channel), std::move(handler), options)) {}

COHORT_INLINE worker::~worker() = default;

COHORT_INLINE asio::any_io_executor worker::get_executor() { return impl_->get_executor(); }

COHORT_INLINE unsigned worker::slot() const noexcept { return impl_->parent().messages().self().slot; }

COHORT_INLINE const std::string& worker::agent() const noexcept { return impl_->parent().messages().self().agent; }

COHORT_INLINE unsigned worker::generation() const noexcept { return impl_->generation(); }

COHORT_INLINE bool worker::draining() const noexcept { return impl_->draining(); }

COHORT_INLINE asio::awaitable<void> worker::until_draining() { return impl_->until_draining(); }

COHORT_INLINE asio::awaitable<void> worker::all_ready() { return impl_->parent().all_ready(); }

COHORT_INLINE bool worker::in_service() const noexcept { return impl_->parent().in_service() && !impl_->draining(); }

COHORT_INLINE message_endpoint& worker::messages() noexcept { return impl_->parent().messages(); }

COHORT_INLINE std::size_t worker::open_connections() const noexcept { return impl_->open_connections(); }

COHORT_INLINE counter& worker::counter(std::string_view name) { return impl_->parent().counters().named(name); }

COHORT_INLINE void worker::drain(const std::string& reason) { impl_->drain(worker_exit::asked, reason, false); }

COHORT_INLINE void worker::fail(const std::string& reason) { impl_->drain(worker_exit::fatal, reason, false); }

COHORT_INLINE void worker::do_not_restart(const std::string& reason) {
  impl_->drain(worker_exit::do_not_restart, reason, false);
}

COHORT_INLINE void worker::on_exception(const std::exception_ptr& failure) { impl_->on_exception(failure); }

COHORT_INLINE asio::awaitable<int> worker::run() { return impl_->run(); }

COHORT_INLINE detail::idle_connections& worker::idle() noexcept { return impl_->idle(); }

}  // namespace cohort
