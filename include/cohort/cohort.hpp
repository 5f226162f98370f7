// SPDX-License-Identifier: BSL-1.0
/// All of cohort.
#pragma once

#include "version.hpp"

// the ground: errors, descriptors, and what coroutines wait for
#include "core/asio.hpp"
#include "core/descriptor.hpp"
#include "core/error.hpp"
#include "core/event.hpp"
#include "core/queue.hpp"
#include "core/semaphore.hpp"
#include "core/single_flight.hpp"
#include "core/error_log.hpp"
#include "core/processors.hpp"
#include "core/run_sync.hpp"
#include "core/task_group.hpp"
#include "core/timeout.hpp"

// one child process: start it, talk over its standard streams, wait, stop
#include "process/child.hpp"
#include "process/command.hpp"
#include "process/daemonize.hpp"
#include "process/exec.hpp"
#include "process/exit_status.hpp"
#include "process/pid_file.hpp"
#include "process/spawn.hpp"
#include "process/this_process.hpp"

// one channel: typed messages and handles between two processes
#include "ipc/call.hpp"
#include "ipc/channel.hpp"
#include "ipc/codec/codec.hpp"
#include "ipc/handle.hpp"
#include "ipc/peer.hpp"
#include "ipc/codec/schema.hpp"
#include "ipc/shared_buffer.hpp"

// a pool of processes: jobs that may block, crash, hang or be cancelled, each at the cost of its process alone
#include "pool/blocking.hpp"
#include "pool/completions.hpp"
#include "pool/job.hpp"
#include "pool/job_failed.hpp"
#include "pool/options.hpp"
#include "pool/process_pool.hpp"
#include "pool/job_process.hpp"

// inside a worker: accept, serve, drain, exit
#include "worker/connection_handler.hpp"
#include "net/acceptor.hpp"
#include "net/stop_listening.hpp"
#include "messaging/delivery.hpp"
#include "worker/options.hpp"
#include "worker/run_worker.hpp"
#include "worker/worker.hpp"

// the primary: keep workers alive and fed
#include "cluster/control/client.hpp"
#include "cluster/control/server.hpp"
#include "cluster/agent.hpp"
#include "cluster/cluster.hpp"
#include "schedule/cron.hpp"
#include "cluster/distribution.hpp"
#include "cluster/events.hpp"
#include "cluster/exit_reason.hpp"
#include "net/inherited_sockets.hpp"
#include "messaging/delivery_queue.hpp"
#include "messaging/messenger.hpp"
#include "cluster/control/metrics.hpp"
#include "cluster/options.hpp"
#include "cluster/picker.hpp"
#include "cluster/service/orphan_reaper.hpp"
#include "cluster/reload.hpp"
#include "cluster/restart_policy.hpp"
#include "schedule/runner.hpp"
#include "schedule/schedule.hpp"
#include "schedule/planner.hpp"
#include "cluster/serve.hpp"
#include "cluster/service/sd_notify.hpp"
#include "cluster/supervision/worker_process.hpp"
#include "cluster/stats.hpp"
#include "cluster/upgrade/protocol.hpp"
