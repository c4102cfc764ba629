#!/bin/sh
# Runs nvcc so that what it writes names no folder of the builder's.
#
#   neutral_paths.sh SOURCE_DIR nvcc ARGUMENTS...
#
# -lineinfo records where kernels were compiled from, and nvcc has no -ffile-prefix-map for it. So
# nvcc runs in the source folder and sees it as /proc/self/cwd. Messages and the dependency file,
# which are for this machine, get the true name back.
set -eu

source=$1
shift
build=$(pwd)
dependencies=

previous=
for argument do
  shift
  case $previous in
    -o | -MF)
      case $argument in /*) ;; *) argument=$build/$argument ;; esac
      if [ "$previous" = -MF ]; then dependencies=$argument; fi
      ;;
    -MT | -MQ) ;;
    *)
      case $argument in
        "$source"/*) argument=/proc/self/cwd/${argument#"$source"/} ;;
        -I"$source"/*) argument=-I/proc/self/cwd/${argument#-I"$source"/} ;;
      esac
      ;;
  esac
  set -- "$@" "$argument"
  previous=$argument
done

cd "$source"
status=0
messages=$("$@" 2>&1) || status=$?
name=$(printf '%s' "$source" | sed 's/[&|\]/\\&/g')
if [ -n "$messages" ]; then printf '%s\n' "$messages" | sed "s|/proc/self/cwd/|$name/|g" >&2; fi
if [ -f "$dependencies" ]; then
  name=$(printf '%s' "$source" | sed 's/[&|\]/\\&/g; s/ /\\\\ /g')
  sed -i "s|/proc/self/cwd/|$name/|g" "$dependencies"
fi
exit $status
