# tandem_library, tandem_binary, tandem_test, tandem_proto: what a component's list is made of.
# A target's layer is its top folder; a dependency on a layer that is not listed here stops cmake.
set(TANDEM_LAYERS proto base text kvstore worker router client tests)
set(TANDEM_MAY_USE_proto "")
set(TANDEM_MAY_USE_base proto)
set(TANDEM_MAY_USE_text base)
set(TANDEM_MAY_USE_kvstore base proto)
set(TANDEM_MAY_USE_worker base proto text kvstore)
set(TANDEM_MAY_USE_router base proto text)
set(TANDEM_MAY_USE_client base proto)
set(TANDEM_MAY_USE_tests proto base text kvstore worker router client)

function(tandem_layer_of dir out)
  file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${dir})
  string(REGEX REPLACE "/.*" "" layer "${path}")
  set(${out} ${layer} PARENT_SCOPE)
endfunction()

function(tandem_check_layers name)
  tandem_layer_of(${CMAKE_CURRENT_SOURCE_DIR} layer)
  set_property(GLOBAL PROPERTY TANDEM_LAYER_OF_${name} ${layer})
  foreach(dep IN LISTS ARGN)
    get_property(of GLOBAL PROPERTY TANDEM_LAYER_OF_${dep})
    if(of AND NOT of STREQUAL layer AND NOT of IN_LIST TANDEM_MAY_USE_${layer})
      message(FATAL_ERROR "${name} (${layer}/) may not use ${dep} (${of}/); "
                          "see docs/ARCHITECTURE.md, \"Folders\"")
    endif()
  endforeach()
endfunction()

# One precompiled header, built once and reused by every target without gRPC in it, and one with.
function(tandem_pch name header)
  add_library(${name} STATIC ${PROJECT_SOURCE_DIR}/cmake/pch.cc)
  target_precompile_headers(${name} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/${header})
  target_link_libraries(${name} PRIVATE ${ARGN})
endfunction()

# tandem_library(NAME SRCS a.cc ... [DEPS x ...] [GRPC])
#   GRPC  the sources include gRPC or generated protobuf: they use the precompiled header with it
function(tandem_library name)
  cmake_parse_arguments(arg "GRPC" "" "SRCS;DEPS" ${ARGN})
  tandem_check_layers(${name} ${arg_DEPS})
  if(arg_SRCS)
    add_library(${name} STATIC ${arg_SRCS})
    set(scope PUBLIC)
  else()
    add_library(${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} ${scope} ${arg_DEPS})
  if(arg_SRCS)
    tandem_reuse_pch(${name} ${arg_GRPC})
  endif()
endfunction()

function(tandem_reuse_pch name grpc)
  if(grpc)
    target_precompile_headers(${name} REUSE_FROM tandem_pch_grpc)
  else()
    target_precompile_headers(${name} REUSE_FROM tandem_pch_base)
  endif()
endfunction()

# tandem_binary(NAME SRCS main.cc [DEPS x ...] [GRPC]): a program in build/PRESET/bin. Without a
# precompiled header: those are built for libraries (-fPIC), and a program is -fPIE.
function(tandem_binary name)
  cmake_parse_arguments(arg "GRPC" "" "SRCS;DEPS" ${ARGN})
  tandem_check_layers(${name} ${arg_DEPS})
  add_executable(${name} ${arg_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_DEPS})
endfunction()

# tandem_test(NAME SRCS a_test.cc ... [DEPS x ...] [LABELS l ...] [TIMEOUT seconds] [GRPC])
# One program of GoogleTest cases, named for a folder; ctest runs it whole, shuffled by its seed.
#   LABELS  "fast" (default) is the first tier; "slow" the second; "tsan" marks what the
#           ThreadSanitizer build runs, which has no gRPC in it
function(tandem_test name)
  cmake_parse_arguments(arg "GRPC" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT arg_LABELS)
    set(arg_LABELS fast)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(TANDEM_SANITIZE)
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 4")
  endif()
  tandem_check_layers(${name} ${arg_DEPS})
  add_executable(${name} ${arg_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE TANDEM_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${arg_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} --gtest_shuffle)
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT})
  if(TANDEM_SANITIZE MATCHES "thread")
    # Without a symbolizer the suppressions match nothing.
    find_program(TANDEM_SYMBOLIZER NAMES llvm-symbolizer-19 llvm-symbolizer REQUIRED)
    set(supp ${PROJECT_SOURCE_DIR}/tests/tsan.supp)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "TSAN_OPTIONS=suppressions=${supp}:external_symbolizer_path=${TANDEM_SYMBOLIZER}")
  endif()
endfunction()

# tandem_fuzz(NAME SRCS a_fuzz.cc [DEPS x ...]): a libFuzzer target; built where TANDEM_FUZZ is on.
function(tandem_fuzz name)
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  if(NOT TANDEM_FUZZ)
    return()
  endif()
  tandem_check_layers(${name} ${arg_DEPS})
  add_executable(${name} ${arg_SRCS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()

# tandem_proto(NAME SRCS tandem/x/v1/a.proto ... [DEPS other_proto ...]): messages and gRPC stubs.
# Paths are relative to proto/, as the imports are.
function(tandem_proto name)
  cmake_parse_arguments(arg "" "" "SRCS;DEPS" ${ARGN})
  tandem_check_layers(${name} ${arg_DEPS})
  set(root ${PROJECT_SOURCE_DIR}/proto)
  set(out ${PROJECT_BINARY_DIR}/gen)
  file(MAKE_DIRECTORY ${out})
  set(sources)
  foreach(src IN LISTS arg_SRCS)
    string(REGEX REPLACE "\\.proto$" "" stem ${src})
    set(products ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(plugin)
    file(STRINGS ${root}/${src} services REGEX "^service ")
    if(services)
      list(APPEND products ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
      set(plugin --grpc_out=${out} --plugin=protoc-gen-grpc=${TANDEM_GRPC_CPP_PLUGIN})
    endif()
    add_custom_command(
      OUTPUT ${products}
      COMMAND protobuf::protoc -I ${root} --cpp_out=${out} ${plugin} ${root}/${src}
      DEPENDS ${root}/${src}
      VERBATIM)
    list(APPEND sources ${products})
  endforeach()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} SYSTEM PUBLIC ${out})
  target_compile_options(${name} PRIVATE -w)
  target_link_libraries(${name} PUBLIC ${arg_DEPS} gRPC::grpc++ protobuf::libprotobuf)
  target_precompile_headers(${name} REUSE_FROM tandem_pch_grpc)
endfunction()

tandem_pch(tandem_pch_base pch_base.h absl::status absl::statusor absl::strings absl::span
           absl::time absl::flat_hash_map)
tandem_pch(tandem_pch_grpc pch_grpc.h absl::status absl::statusor absl::strings absl::span
           absl::time absl::flat_hash_map gRPC::grpc++ protobuf::libprotobuf)
