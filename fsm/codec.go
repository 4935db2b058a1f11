package fsm

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Kind is a command's number in the log. Numbers are never reused: append only.
type Kind uint8

const (
	kindRegisterNode Kind = iota + 1
	kindRemoveNode
	kindRegisterService
	kindDeleteService
	kindSetServiceDisabled
	kindSetClusterDisabled
	kindSetFrozen
	kindFreezeReported
	kindRequestFailover
	kindAbortFailover
	kindMemberDrained
	kindAssign
	kindClaim
	kindStageResults
	kindFailoverCompleted
	kindFailoverRefused
	kindAttemptEnded
	kindGiveUp
	kindMemberSwitched
	kindFinishFailover
	kindSettleResults
	kindCreateVolume
	kindDeleteVolume
	kindExtendVolume
	kindCreateSnapshot
	kindDeleteSnapshot
	kindEndOperation
	kindMoveOperations
	kindCreateVolumeType
	kindDeleteVolumeType
	kindEditVolume
	kindEditSnapshot
	kindResetVolume
	kindResetSnapshot
	kindMoveAttaching
	kindCreateAttachment
	kindUpdateAttachment
	kindDeleteAttachments
	kindSetQuota
	kindSetExtraSpecs
	kindEditVolumeType
	kindReportStuck
	kindManageVolume
	kindUnmanageVolume
	kindRetypeVolume
	kindCreateGroupType
	kindEditGroupType
	kindDeleteGroupType
	kindCreateGroup
	kindEditGroup
	kindResetGroup
	kindDeleteGroup
	kindSetGroupReplication
)

// Format is the newest log and snapshot format that this build reads, and the
// one that it writes. A leader proposes nothing while a peer reads only older
// ones.
const Format uint8 = 1

// MaxEntry is the size in bytes that a log entry may have. Larger ones would
// hold up replication, and beyond 64 MiB the log could not read them back.
const MaxEntry = 1 << 20

// header precedes the command in an entry.
type header struct {
	Request string `cbor:"1,keyasint,omitempty"`
	At      Time   `cbor:"2,keyasint,omitempty"`
}

// Encode returns the log entry of cmd: format, kind, header and body, the latter
// two in CBOR (RFC 8949). Of m it keeps Request and At; the log knows the rest. It
// answers [ErrTooLarge] for an entry over [MaxEntry].
func Encode(m Meta, cmd Command) ([]byte, error) {
	head, err := cbor.Marshal(header{Request: m.Request, At: m.At})
	if err != nil {
		return nil, fmt.Errorf("encode header: %w", err)
	}
	body, err := cbor.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode kind %d: %w", cmd.kind(), err)
	}
	entry := make([]byte, 0, 2+len(head)+len(body))
	entry = append(entry, Format, byte(cmd.kind()))
	entry = append(append(entry, head...), body...)
	if len(entry) > MaxEntry {
		return nil, refuse(ErrTooLarge, fmt.Sprintf("the command takes %d bytes, more than the %d that a log entry may have", len(entry), MaxEntry))
	}
	return entry, nil
}

// Decode is the inverse of [Encode]: it returns the command, and of its Meta what
// the entry holds. It survives any bytes; what it cannot read is [ErrInvalid].
func Decode(entry []byte) (Meta, Command, error) {
	if len(entry) < 2 || len(entry) > MaxEntry {
		return Meta{}, nil, fmt.Errorf("entry of %d bytes: %w", len(entry), ErrInvalid)
	}
	decode := decoder(Kind(entry[1]))
	if entry[0] == 0 || entry[0] > Format || decode == nil {
		return Meta{}, nil, fmt.Errorf("entry of format %d, kind %d: %w", entry[0], entry[1], ErrInvalid)
	}
	var head header
	body, err := cbor.UnmarshalFirst(entry[2:], &head)
	if err != nil {
		return Meta{}, nil, fmt.Errorf("header of an entry of kind %d: %w: %w", entry[1], ErrInvalid, err)
	}
	cmd, err := decode(body)
	if err != nil {
		return Meta{}, nil, fmt.Errorf("body of an entry of kind %d: %w: %w", entry[1], ErrInvalid, err)
	}
	return Meta{Request: head.Request, At: head.At}, cmd, nil
}

func decodeAs[C Command](body []byte) (Command, error) {
	var c C
	err := cbor.Unmarshal(body, &c)
	return c, err
}

// decoder returns nil for a kind that this build does not know.
//
//nolint:funlen,gocyclo // one line a command: a table would have to be a global
func decoder(k Kind) func([]byte) (Command, error) {
	switch k {
	case kindRegisterNode:
		return decodeAs[RegisterNode]
	case kindRemoveNode:
		return decodeAs[RemoveNode]
	case kindRegisterService:
		return decodeAs[RegisterService]
	case kindDeleteService:
		return decodeAs[DeleteService]
	case kindSetServiceDisabled:
		return decodeAs[SetServiceDisabled]
	case kindSetClusterDisabled:
		return decodeAs[SetClusterDisabled]
	case kindSetFrozen:
		return decodeAs[SetFrozen]
	case kindFreezeReported:
		return decodeAs[FreezeReported]
	case kindRequestFailover:
		return decodeAs[RequestFailover]
	case kindAbortFailover:
		return decodeAs[AbortFailover]
	case kindMemberDrained:
		return decodeAs[MemberDrained]
	case kindAssign:
		return decodeAs[Assign]
	case kindClaim:
		return decodeAs[Claim]
	case kindStageResults:
		return decodeAs[StageResults]
	case kindFailoverCompleted:
		return decodeAs[FailoverCompleted]
	case kindFailoverRefused:
		return decodeAs[FailoverRefused]
	case kindAttemptEnded:
		return decodeAs[AttemptEnded]
	case kindGiveUp:
		return decodeAs[GiveUp]
	case kindMemberSwitched:
		return decodeAs[MemberSwitched]
	case kindFinishFailover:
		return decodeAs[FinishFailover]
	case kindSettleResults:
		return decodeAs[SettleResults]
	case kindCreateVolume:
		return decodeAs[CreateVolume]
	case kindDeleteVolume:
		return decodeAs[DeleteVolume]
	case kindExtendVolume:
		return decodeAs[ExtendVolume]
	case kindCreateSnapshot:
		return decodeAs[CreateSnapshot]
	case kindDeleteSnapshot:
		return decodeAs[DeleteSnapshot]
	case kindEndOperation:
		return decodeAs[EndOperation]
	case kindMoveOperations:
		return decodeAs[MoveOperations]
	case kindCreateVolumeType:
		return decodeAs[CreateVolumeType]
	case kindDeleteVolumeType:
		return decodeAs[DeleteVolumeType]
	case kindEditVolume:
		return decodeAs[EditVolume]
	case kindEditSnapshot:
		return decodeAs[EditSnapshot]
	case kindResetVolume:
		return decodeAs[ResetVolume]
	case kindResetSnapshot:
		return decodeAs[ResetSnapshot]
	case kindMoveAttaching:
		return decodeAs[MoveAttaching]
	case kindCreateAttachment:
		return decodeAs[CreateAttachment]
	case kindUpdateAttachment:
		return decodeAs[UpdateAttachment]
	case kindDeleteAttachments:
		return decodeAs[DeleteAttachments]
	case kindSetQuota:
		return decodeAs[SetQuota]
	case kindSetExtraSpecs:
		return decodeAs[SetExtraSpecs]
	case kindEditVolumeType:
		return decodeAs[EditVolumeType]
	case kindReportStuck:
		return decodeAs[ReportStuck]
	case kindManageVolume:
		return decodeAs[ManageVolume]
	case kindUnmanageVolume:
		return decodeAs[UnmanageVolume]
	case kindRetypeVolume:
		return decodeAs[RetypeVolume]
	case kindCreateGroupType:
		return decodeAs[CreateGroupType]
	case kindEditGroupType:
		return decodeAs[EditGroupType]
	case kindDeleteGroupType:
		return decodeAs[DeleteGroupType]
	case kindCreateGroup:
		return decodeAs[CreateGroup]
	case kindEditGroup:
		return decodeAs[EditGroup]
	case kindResetGroup:
		return decodeAs[ResetGroup]
	case kindDeleteGroup:
		return decodeAs[DeleteGroup]
	case kindSetGroupReplication:
		return decodeAs[SetGroupReplication]
	}
	return nil
}
