//! burn's tensors and those of the safetensors format.

use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The format's precision, and burn's to which the tensor is converted first.
pub(super) fn written(dtype: DType) -> Option<(Dtype, DType)> {
    Some(match dtype {
        DType::F64 => (Dtype::F64, dtype),
        DType::F32 => (Dtype::F32, dtype),
        DType::Flex32 => (Dtype::F32, DType::F32),
        DType::F16 => (Dtype::F16, dtype),
        DType::BF16 => (Dtype::BF16, dtype),
        DType::I64 => (Dtype::I64, dtype),
        DType::I32 => (Dtype::I32, dtype),
        DType::I16 => (Dtype::I16, dtype),
        DType::I8 => (Dtype::I8, dtype),
        DType::U64 => (Dtype::U64, dtype),
        DType::U32 => (Dtype::U32, dtype),
        DType::U16 => (Dtype::U16, dtype),
        DType::U8 => (Dtype::U8, dtype),
        DType::Bool(_) => (Dtype::BOOL, DType::Bool(BoolStore::Native)),
        DType::QFloat(_) => return None,
    })
}

/// The tensor, or nothing for a precision that burn does not have, or truth values other than 0 and 1.
pub(super) fn read(view: &TensorView) -> Option<TensorData> {
    let dtype = match view.dtype() {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        Dtype::BOOL if view.data().iter().all(|&byte| byte < 2) => DType::Bool(BoolStore::Native),
        _ => return None,
    };
    let bytes = burn::tensor::Bytes::from_bytes_vec(view.data().to_vec());
    TensorData::try_from_bytes(bytes, view.shape().to_vec(), dtype).ok()
}
