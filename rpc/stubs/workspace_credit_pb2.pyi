from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetWorkspaceCreditRequest(_message.Message):
    __slots__ = ("workspace_id",)
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    workspace_id: str
    def __init__(self, workspace_id: _Optional[str] = ...) -> None: ...

class ReserveCreditRequest(_message.Message):
    __slots__ = ("workspace_id", "campaign_id", "amount")
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    workspace_id: str
    campaign_id: str
    amount: str
    def __init__(self, workspace_id: _Optional[str] = ..., campaign_id: _Optional[str] = ..., amount: _Optional[str] = ...) -> None: ...

class ReleaseCreditRequest(_message.Message):
    __slots__ = ("workspace_id", "campaign_id")
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    workspace_id: str
    campaign_id: str
    def __init__(self, workspace_id: _Optional[str] = ..., campaign_id: _Optional[str] = ...) -> None: ...

class VerifyKeyRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class Principal(_message.Message):
    __slots__ = ("key_id", "workspace_id")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    workspace_id: str
    def __init__(self, key_id: _Optional[str] = ..., workspace_id: _Optional[str] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("workspace_id", "name", "credit", "reserved", "available", "version")
    WORKSPACE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    workspace_id: str
    name: str
    credit: str
    reserved: str
    available: str
    version: int
    def __init__(self, workspace_id: _Optional[str] = ..., name: _Optional[str] = ..., credit: _Optional[str] = ..., reserved: _Optional[str] = ..., available: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...
