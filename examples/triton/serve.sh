#!/usr/bin/env bash
# Opens the protected models of a model repository into memory and starts a server on them. No plaintext gets to a disk.
#
#   serve.sh [OPTIONS] REPOSITORY FOLDER [COMMAND...]
#
#   serve.sh -i /run/secrets/identity /models /opened
#   serve.sh -i /run/secrets/identity /models /opened tritonserver --model-repository={} --http-port=9000
#
# REPOSITORY has protected models in Triton's layout (NAME/VERSION/model.onnx); config.pbtxt and all other files are copied
# as they are. FOLDER is an empty folder. The script mounts memory over it in a mount namespace of its own: only COMMAND and
# the processes it starts see the memory, and it is gone when they have ended, however they end. In COMMAND, {} stands for
# the folder with the opened models. The default COMMAND is `tritonserver --model-repository={}`.
#
#   -i, --identity FILE       identity file or ssh private key, - for standard input [default: the file or descriptor
#                             (fd:N) that ONNXSEAL_IDENTITY names]
#   --allowed-signers FILE    refuse models that are not signed by a key of this OpenSSH allowed_signers file
#   --signer PRINCIPAL        the signer in that file who must have signed
#   --tier NAME               serve this tier of the models, or with `any` the highest that the identities open; without it,
#                             a tier below the highest is refused, because it is not the original
#   --allow-plain             also serve models that are not protected; otherwise they are refused
#   --user NAME               start COMMAND as this user, without privileges
#   --size SIZE               the most memory for the opened models, such as 4G [default: half of the memory]
#   --given                   FOLDER is in memory already (Kubernetes: emptyDir of medium Memory): mount nothing
#   --open-only               with --given: open the models, leave them there, and start nothing
#   --allow-swap              with --given: take memory that may be swapped out to a disk without encryption
#
# The exit code is the server's, or onnxseal's if a model cannot be opened (`onnxseal --help`), or 2.
# Needs bash, util-linux 2.33 or newer, and onnxseal in PATH or as ONNXSEAL_BIN.
set -euo pipefail
umask 077

fail() {
    printf 'serve.sh: %s\n' "$*" >&2
    exit 2
}

parse() {
    identities=() signers=() tier=() command=()
    user='' size='' given='' open_only='' allow_plain='' allow_swap='' outside=''
    while (($#)); do
        case $1 in
            -i | --identity) identities+=("${2?$1 needs a file}") && shift ;;
            --allowed-signers | --signer) signers+=("$1" "${2?$1 needs a value}") && shift ;;
            --tier) tier=("$1" "${2?$1 needs a name}") && shift ;;
            --user) user=${2?$1 needs a name} && shift ;;
            --size) size=${2?$1 needs a size} && shift ;;
            --given) given=1 ;;
            --open-only) open_only=1 ;;
            --allow-plain) allow_plain=1 ;;
            --allow-swap) allow_swap=1 ;;
            # For this script alone: the mount namespace that it was started in.
            --outside) outside=$2 && shift ;;
            -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit ;;
            -*) fail "unknown option $1, see --help" ;;
            *) break ;;
        esac
        shift
    done
    (($# >= 2)) || fail "REPOSITORY and FOLDER are needed, see --help"
    repository=$1 folder=$2
    shift 2
    command=("$@")
    ((${#command[@]})) || command=(tritonserver '--model-repository={}')
}

check() {
    [[ -z $open_only || -n $given ]] || fail "--open-only needs --given: other memory ends with this script"
    [[ -d $repository ]] || fail "$repository is no folder"
    [[ -d $folder ]] || fail "$folder is no folder: make one, to mount memory over"
    repository=$(realpath -- "$repository") folder=$(realpath -- "$folder")
    [[ $folder/ != "$repository"/* ]] || fail "$folder is in $repository: what is opened would be looked for models"
    local program programs=("$tool" setpriv)
    [[ -n $open_only ]] || programs+=("${command[0]}")
    for program in "${programs[@]}"; do
        command -v -- "$program" >/dev/null || fail "$program is not installed"
    done
    [[ -z $user ]] || id -- "$user" >/dev/null || fail "there is no user $user"
}

# Mounts memory over the folder that is never swapped out. Whoever is in no namespace of this script's does not see it.
mount_memory() {
    [[ $outside != "$(readlink /proc/self/ns/mnt)" ]] || fail "not in a mount namespace of its own"
    local options=mode=0700,nosuid,nodev,noexec
    # noswap is new in Linux 6.4, and for the initial user namespace only. ramfs is never swapped out, nor limited in size.
    if mount -t tmpfs -o "$options,noswap${size:+,size=$size}" onnxseal "$folder" 2>/dev/null; then
        return
    fi
    [[ -z $size ]] || fail "cannot mount $size of memory that is not swapped out over $folder; without --size, ramfs will do"
    mount -t ramfs -o "$options" onnxseal "$folder" || fail "cannot mount memory over $folder"
}

# Every device that the kernel swaps to is encrypted; also true if there is none.
swap_is_safe() {
    local device uuid
    while read -r device _; do
        uuid=/sys/class/block/$(basename "$device")/dm/uuid
        [[ -r $uuid && $(<"$uuid") == CRYPT-* ]] || return 1
    done < <(tail -n +2 /proc/swaps)
}

check_given_memory() {
    case $(stat -f -c %T -- "$folder") in
        ramfs) return ;;
        tmpfs) ;;
        *) fail "$folder is not in memory but on $(stat -f -c %T -- "$folder"): opened models would get to a disk" ;;
    esac
    [[ -n $allow_swap || ,$(findmnt -n -o OPTIONS -T "$folder"), == *,noswap,* ]] || swap_is_safe \
        || fail "$folder may be swapped out to a disk without encryption, see --allow-swap"
}

# Runs a command as a child, which ends with this script, and passes on what is to end it.
supervise() {
    local code
    stop_if_ended
    setpriv --pdeathsig KILL -- "$@" <&0 &
    child=$!
    [[ -z $ended ]] || kill "$child"
    while true; do
        # A signal ends `wait` as well; the child's own code then comes from the next one.
        signalled=''
        wait "$child" && code=0 || code=$?
        [[ -n $signalled ]] || break
    done
    child=''
    return "$code"
}

end() {
    ended=1 signalled=1
    [[ -z $child ]] || kill "$child" 2>/dev/null || true
}

stop_if_ended() {
    [[ -z $ended ]] || exit 143
}

# The number of models after a name in a report of onnxseal, which is JSON with one member on each line.
count() {
    sed -n "s/^ *\"$1\": \([0-9]*\),\{0,1\}$/\1/p"
}

open_models() {
    local code=0 identity access=("${signers[@]}" "${tier[@]}") plain=0
    for identity in "${identities[@]}"; do
        access+=(-i "$identity")
    done
    # What is protected shows without an identity, and a descriptor or standard input gives it only once.
    if [[ -n $allow_plain ]]; then
        plain=$(env -u ONNXSEAL_IDENTITY "$tool" verify --json "$repository" | count not_protected) || exit
    else
        supervise env -u ONNXSEAL_IDENTITY "$tool" verify -q --require-protected "$repository" || exit
    fi
    mkdir -- "$opened"
    supervise "$tool" batch unprotect "$repository" --out "$opened" "${access[@]}" \
        --report "$folder/report.json" --no-records -q || code=$?
    # Models that are not protected are what it could not be asked for (2); any other failure has another code.
    if ((code == 2 && plain > 0)) && [[ $(count failed <"$folder/report.json") == "$plain" ]]; then
        code=0
        printf 'serve.sh: %d models are not protected, and served as they are\n' "$plain" >&2
    fi
    rm -f "$folder/report.json"
    ((code == 0)) || exit "$code"
}

# All folders, and the files that are not there yet: those of protected models are. A link that leads out of the repository
# is refused: its writer could have any file copied that this script may read, the identity as well.
copy_the_rest() {
    local path target
    (cd -- "$repository" && find -L . -type d -print0) | (cd -- "$opened" && xargs -0 mkdir -p --)
    (cd -- "$repository" && find -L . -type f -print0) | while IFS= read -r -d '' path; do
        [[ ! -e $opened/$path ]] || continue
        target=$(realpath -- "$repository/$path")
        [[ $target == "$repository"/* ]] || fail "$repository/$path leads out of the repository"
        cp -- "$target" "$opened/$path"
    done
}

# The server gets neither the descriptors that gave identities nor the variable, and in its namespace the files are empty.
forget_identities() {
    local source number
    for source in "${identities[@]}" "${ONNXSEAL_IDENTITY:-}"; do
        case $source in
            - | fd:0 | /dev/stdin | /dev/fd/0) exec </dev/null ;;
            fd:* | /dev/fd/* | /proc/self/fd/*)
                number=${source##*[:/]}
                exec {number}<&-
                ;;
            *)
                if [[ -n $outside && -f $source ]]; then
                    mount --bind /dev/null "$source" || fail "cannot hide $source from the server"
                fi
                ;;
        esac
    done
    unset ONNXSEAL_IDENTITY
}

main() {
    tool=${ONNXSEAL_BIN:-onnxseal}
    child='' ended='' signalled=''
    parse "$@"
    check
    if [[ -z $given && -z $outside ]]; then
        unshare --mount true 2>/dev/null || fail "no right to mount memory (CAP_SYS_ADMIN): run as root, or with" \
            "\`unshare --user --map-root-user serve.sh ...\`, or give a folder that is in memory, with --given"
        exec unshare --mount -- "$BASH" "${BASH_SOURCE[0]}" --outside "$(readlink /proc/self/ns/mnt)" "$@"
    fi
    # No core dumps, not even to a program that the kernel pipes them to: the filter leaves nothing to dump.
    ulimit -c 0
    echo 0 >/proc/self/coredump_filter

    trap end TERM INT HUP
    opened=$folder/opened
    if [[ -n $given ]]; then
        check_given_memory
        # One at a time: what is there already was left behind by a run that was killed.
        exec {lock}<"$folder"
        flock -n "$lock" || fail "$folder is in use by another serve.sh"
        opened=$folder/onnxseal-opened
        trap 'rm -rf -- "$opened" "$folder/report.json"' EXIT
        rm -rf -- "$opened"
    else
        mount_memory
    fi
    open_models
    # Before anything else is copied, so that no identity is.
    forget_identities
    copy_the_rest
    if [[ -n $open_only ]]; then
        trap - EXIT
        exit 0
    fi

    command=("${command[@]//'{}'/"$opened"}")
    if [[ -n $user ]]; then
        chown -R -- "$user:" "$opened"
        chown -- "$user:" "$folder"
        command=(setpriv --reuid "$user" --regid "$(id -g -- "$user")" --init-groups --inh-caps=-all --no-new-privs
            -- "${command[@]}")
    fi
    if [[ -n $given ]]; then
        supervise "${command[@]}" {lock}<&-
    else
        stop_if_ended
        exec "${command[@]}"
    fi
}

main "$@"
