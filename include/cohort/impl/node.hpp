// SPDX-License-Identifier: BSL-1.0
/// The bodies of what speaks with Node.js, for the separately compiled mode: see src.hpp. Beside that, and in one
/// translation unit too, of a program that uses the headers of ipc/node or cluster/node.
#pragma once

#ifndef COHORT_SEPARATE_COMPILATION
#error "cohort/impl/node.hpp: define COHORT_SEPARATE_COMPILATION for the whole program"
#endif

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the frames of coroutines that wait for a lambda for types of the main file.
#pragma GCC diagnostic ignored "-Wsubobject-linkage"
#endif

#include "../cluster/node/listen_query.ipp"
#include "../cluster/node/listener_table.ipp"
#include "../cluster/node/node_listener.ipp"
#include "../cluster/node/primary_link.ipp"
#include "../cluster/node/run_node_worker.ipp"
#include "../cluster/node/worker_session.ipp"
#include "../cluster/node/workers.ipp"
#include "../ipc/node/channel.ipp"
#include "../ipc/node/codec/json_path.ipp"
#include "../ipc/node/link.ipp"
#include "../ipc/node/message.ipp"
#include "../ipc/node/peer.ipp"
#include "../ipc/node/serialization/json_text.ipp"
#include "../ipc/node/serialization/utf.ipp"
#include "../ipc/node/serialization/v8_reader.ipp"
#include "../ipc/node/serialization/v8_writer.ipp"
#include "../ipc/node/transport/connection.ipp"
#include "../ipc/node/transport/connection_input.ipp"
#include "../ipc/node/transport/framer.ipp"
#include "../ipc/node/transport/inbox.ipp"
#include "../ipc/node/transport/outbox.ipp"
#include "../ipc/node/transport/socket_counts.ipp"
