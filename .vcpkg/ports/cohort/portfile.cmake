# As an overlay port this builds the checkout that it lies in: vcpkg install cohort --overlay-ports=.vcpkg/ports
# In a registry, vcpkg_from_github() with REPO, REF "v${VERSION}", SHA512 and HEAD_REF takes the place of this line.
get_filename_component(SOURCE_PATH "${CURRENT_PORT_DIR}/../../.." ABSOLUTE)

if("compiled" IN_LIST FEATURES)
  set(compiled true)
else()
  set(compiled false)
  set(VCPKG_BUILD_TYPE release) # header-only
endif()

vcpkg_configure_meson(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -Dcompiled=${compiled}
    -Dtests=disabled
    -Dexamples=disabled
    -Dbench=disabled
)
vcpkg_install_meson()
if(compiled) # vcpkg wants them there unless a port is header-only
  foreach(build IN ITEMS "" debug/)
    file(RENAME "${CURRENT_PACKAGES_DIR}/${build}share/pkgconfig" "${CURRENT_PACKAGES_DIR}/${build}lib/pkgconfig")
  endforeach()
endif()
vcpkg_fixup_pkgconfig()
vcpkg_cmake_config_fixup()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
if(NOT compiled)
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug" "${CURRENT_PACKAGES_DIR}/lib")
endif()

file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
