# SPDX-License-Identifier: BSL-1.0
# Looks for what cohort stands on, for the installed package and for add_subdirectory alike. Sets
#
#   cohort_lacks        a sentence, where something is missing or too old; otherwise empty
#   cohort_libraries    what to link
#   cohort_includes     where Asio is, if that is no target
#   cohort_definitions  what Asio needs of this compiler
#
# COHORT_BOOST_ASIO: on Boost.Asio. Targets fmt::fmt and asio::asio that exist already are taken as they are: the headers look at the versions, too.
set(cohort_lacks "")
set(cohort_libraries fmt::fmt Threads::Threads)
set(cohort_includes "")
set(cohort_definitions "")

set(THREADS_PREFER_PTHREAD_FLAG TRUE)
find_package(Threads QUIET)
if(NOT TARGET fmt::fmt)
  find_package(fmt CONFIG QUIET)
endif()

if(NOT Threads_FOUND)
  set(cohort_lacks "cohort needs threads, and CMake finds none for this compiler")
elseif(NOT TARGET fmt::fmt)
  set(cohort_lacks "cohort needs fmt 9 or later: no fmtConfig.cmake; install fmt, or set fmt_DIR")
elseif(fmt_VERSION AND fmt_VERSION VERSION_LESS 9)
  set(cohort_lacks "cohort needs fmt 9 or later: ${fmt_DIR} has ${fmt_VERSION}")
elseif(COHORT_BOOST_ASIO)
  if(NOT TARGET Boost::headers)
    find_package(Boost 1.81 QUIET)
  endif()
  if(TARGET Boost::headers)
    list(APPEND cohort_libraries Boost::headers)
    list(APPEND cohort_definitions COHORT_BOOST_ASIO)
  else()
    set(cohort_lacks "cohort needs Boost 1.81 or later for COHORT_BOOST_ASIO: install Boost, or set BOOST_ROOT")
  endif()
elseif(TARGET asio::asio)
  list(APPEND cohort_libraries asio::asio)
else()
  find_path(ASIO_INCLUDE_DIR asio/version.hpp)
  if(NOT ASIO_INCLUDE_DIR)
    set(cohort_lacks
      "cohort needs standalone Asio 1.22 or later: no asio/version.hpp; install Asio, or set ASIO_INCLUDE_DIR")
  else()
    file(STRINGS "${ASIO_INCLUDE_DIR}/asio/version.hpp" cohort_asio REGEX "define ASIO_VERSION [0-9]+")
    string(REGEX MATCH "[0-9]+" cohort_asio "${cohort_asio}")
    if(cohort_asio LESS 102200)
      set(cohort_lacks
        "cohort needs Asio 1.22 or later (ASIO_VERSION 102200): ${ASIO_INCLUDE_DIR} has ${cohort_asio}")
    elseif(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND cohort_asio LESS 102600)
      set(cohort_definitions ASIO_HAS_CO_AWAIT ASIO_HAS_STD_COROUTINE)
    endif()
    set(cohort_includes "${ASIO_INCLUDE_DIR}")
  endif()
endif()
